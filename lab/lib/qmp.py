"""Talks QMP to a lab's QEMU.

  qmp.py SOCKET call COMMAND [JSON-ARGUMENTS]       prints the answer as JSON
  qmp.py SOCKET job COMMAND [JSON-ARGUMENTS]      starts a job and waits for its end
  qmp.py SOCKET unplug DEVICE-ID                  device_del, and waits until the device is gone
  qmp.py SOCKET ready                             exit 0 if QEMU answers

Errors go to stderr, with exit code 1.
"""

import json
import socket
import sys

TIMEOUT_SECONDS = 120


class Qmp:
    """One connection; events that arrive meanwhile are kept for `wait_event`."""

    def __init__(self, path: str) -> None:
        self.events: list[dict] = []
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(path)
        self.stream = connection.makefile("rw", encoding="utf-8")
        self.receive()  # the greeting
        self.execute("qmp_capabilities")

    def receive(self) -> dict:
        line = self.stream.readline()
        if not line:
            raise ConnectionError("QEMU closed the connection")
        return json.loads(line)

    def execute(self, command: str, arguments: dict | None = None) -> object:
        request: dict = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.stream.write(json.dumps(request) + "\n")
        self.stream.flush()
        while True:
            message = self.receive()
            if "error" in message:
                raise RuntimeError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self.events.append(message)

    def wait_event(self, name: str, **data: str) -> None:
        while True:
            message = self.events.pop(0) if self.events else self.receive()
            if message.get("event") == name and data.items() <= message["data"].items():
                return

    def run_job(self, command: str, arguments: dict) -> None:
        job = arguments["job-id"]
        self.execute(command, arguments)
        self.wait_event("JOB_STATUS_CHANGE", id=job, status="concluded")
        jobs = self.execute("query-jobs")
        self.execute("job-dismiss", {"id": job})
        for entry in jobs:
            if entry["id"] == job and "error" in entry:
                raise RuntimeError(f"{command}: {entry['error']}")


def main(path: str, action: str, *rest: str) -> None:
    qmp = Qmp(path)
    arguments = json.loads(rest[1]) if len(rest) > 1 else {}
    if action == "call":
        print(json.dumps(qmp.execute(rest[0], arguments)))
    elif action == "job":
        qmp.run_job(rest[0], arguments)
    elif action == "unplug":
        qmp.execute("device_del", {"id": rest[0]})
        qmp.wait_event("DEVICE_DELETED", device=rest[0])
    elif action != "ready":
        raise ValueError(f"unknown action {action}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"qmp: {error}")
