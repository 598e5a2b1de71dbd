#!/bin/bash
# A root directory as a qcow2 disk, without loop devices or mounts.
# Usage, as root: disk.sh ROOT OUT: leaves OUT/disk.qcow2
. "$LAB_DIR/lib/common.sh"

root="$1" out="$2"
truncate -s 4G "$out/disk.raw"
mke2fs -q -t ext4 -O ^metadata_csum -E lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0 \
    -m 0 -L vgpud-lab -d "$root" "$out/disk.raw"
qemu-img convert -q -O qcow2 "$out/disk.raw" "$out/disk.qcow2"
rm "$out/disk.raw"
