"""A DMAR table for the initrd: dmar.py OUT.

QEMU's own names each of its devices, so functions that a kernel module makes in software get no IOMMU
group. This one says that its one unit covers all of the segment. The kernel takes it from the initrd
because it has the same names as QEMU's and a higher revision.
"""

import struct
import sys


def header(length: int, checksum: int) -> bytes:
    return struct.pack("<4sIBB6s8sI4sI", b"DMAR", length, 1, checksum, b"BOCHS ", b"BXPC    ", 2, b"LAB ", 1)


def table() -> bytes:
    # Host address width less one (48 bits); interrupt remapping is there.
    body = struct.pack("<BB10x", 47, 1)
    # The unit at QEMU's address, for all devices; in its scope the IOAPIC with QEMU's id and path.
    body += struct.pack("<HHBBHQ", 0, 24, 1, 0, 0, 0xFED90000)
    body += struct.pack("<BBHBBBB", 3, 8, 0, 0, 0xFF, 0, 0)
    # All root ports pass address translation services.
    body += struct.pack("<HHBBH", 2, 8, 1, 0, 0)
    length = 36 + len(body)
    return header(length, -sum(header(length, 0) + body) & 0xFF) + body


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as target:
        target.write(table())
