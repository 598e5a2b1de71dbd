#!/usr/bin/env python3
"""Times whole processes: measure.py ROUNDS STDIN COMMAND... : COMMAND... [: COMMAND...]

Runs the commands one after the other, ROUNDS times over (A B A B ...), so that what disturbs the machine
disturbs all of them. From the spawn to the end; output goes to /dev/null. Prints a line for each command:
median and minimum of the elapsed time, median of the processor time, in milliseconds.
"""

import os
import statistics
import sys
import time

WARM_UP = 3


def run(command, stdin, null):
    actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
    descriptor = os.open(stdin, os.O_RDONLY)
    actions.append((os.POSIX_SPAWN_DUP2, descriptor, 0))
    began = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    elapsed = time.perf_counter() - began
    os.close(descriptor)
    if status != 0:
        sys.exit(f"measure: {' '.join(command)} failed: {status}")
    return elapsed * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3


def main():
    rounds, stdin = int(sys.argv[1]), sys.argv[2]
    commands = [[]]
    for word in sys.argv[3:]:
        if word == ":":
            commands.append([])
        else:
            commands[-1].append(word)
    null = os.open(os.devnull, os.O_WRONLY)
    times = [[] for _ in commands]
    for turn in range(WARM_UP + rounds):
        for command, taken in zip(commands, times):
            sample = run(command, stdin, null)
            if turn >= WARM_UP:
                taken.append(sample)
    for taken in times:
        elapsed = [sample[0] for sample in taken]
        processor = [sample[1] for sample in taken]
        median = statistics.median(elapsed)
        print(f"{median:.3f} {min(elapsed):.3f} {statistics.median(processor):.3f}")


main()
