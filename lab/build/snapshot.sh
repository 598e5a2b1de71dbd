#!/bin/bash
# Boots a fresh disk once, warms it up, and saves memory and disk as the snapshot "ready".
# Usage: snapshot.sh BASE ACCEL TARGET: leaves the disk with the snapshot as TARGET
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/hardware.sh"
. "$LAB_DIR/lib/ssh.sh"
. "$LAB_DIR/lib/machine.sh"

base="$1" accel="$2" target="$3"

# A machine of its own, which nobody else knows.
LAB_INSTANCE="$(mktemp -d "$base/booting.XXXXXX")"
LAB_RUN="$(mktemp -d "${TMPDIR:-/tmp}/vgpud-lab.XXXXXX")"
LAB_SHARE="$LAB_RUN"
cleanup() {
    lab_kill
    rm -rf "$LAB_INSTANCE" "$LAB_RUN"
}
trap cleanup EXIT
cp "$base"/{vmlinux,initrd,key,known_hosts} "$LAB_INSTANCE/"
cp --sparse=always "$base/disk.qcow2" "$LAB_INSTANCE/disk.qcow2"

began=$SECONDS
VGPUD_LAB_TTL=600 lab_launch "$accel"
lab_wait_ssh "$LAB_BOOT_SECONDS" || {
    tail -n 20 "$LAB_RUN/console.log" >&2
    die "the new image does not boot"
}
note "first boot: $((SECONDS - began)) s"

# What later starts need is then in the page cache and in libvirt's own caches.
began=$SECONDS
lab_ssh /usr/lib/vgpud-lab/warm-up || die "the new image cannot run a guest"
note "warm-up: $((SECONDS - began)) s"

lab_close_ssh
lab_qmp job snapshot-save '{"job-id": "save", "tag": "ready", "vmstate": "disk", "devices": ["disk"]}'
lab_qmp call quit >/dev/null
while lab_is_up; do sleep 0.05; done
mv "$LAB_INSTANCE/disk.qcow2" "$target"
