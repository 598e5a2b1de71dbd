"""Cuts the compressed kernel out of a bzImage: payload.py BZIMAGE OUT.

The header's fields are described in the kernel's Documentation/arch/x86/boot.rst.
"""

import struct
import sys


def payload(image: bytes) -> bytes:
    if image[0x202:0x206] != b"HdrS":
        sys.exit("payload.py: not a bzImage")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    # The last four bytes are the uncompressed size, which is no part of the stream.
    return image[start : start + length - 4]


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
        target.write(payload(source.read()))
