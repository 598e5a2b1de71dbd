#!/bin/bash
# lab status: what there is; exit code 0 when the lab is up, 3 when it is down.
. "$LAB_DIR/lib/all.sh"

printf 'name      %s\n' "$LAB_NAME"
printf 'suite     %s\n' "$LAB_SUITE"
printf 'build     %s\n' "$LAB_CACHE/$(lab_key)$([[ -d "$LAB_CACHE/$(lab_key)" ]] || printf ' (not built)')"
printf 'run       %s\n' "$LAB_RUN"
printf 'share     %s\n' "$LAB_SHARE"
if [[ -f "$LAB_INSTANCE/built" ]]; then
    printf 'accel     %s\n' "$(lab_accel_of_instance)"
    printf 'snapshots %s\n' "$(qemu-img snapshot -U -l "$LAB_INSTANCE/disk.qcow2" | awk 'NR > 2 { print $2 }' | paste -sd' ')"
    [[ "$(dirname "$(cat "$LAB_INSTANCE/built")")" == "$LAB_CACHE/$(lab_key)" ]] ||
        printf 'note      the disk is of another build; the next "up" from down replaces it\n'
fi
if pid="$(lab_pid)"; then
    printf 'state     up, pid %s\n' "$pid"
else
    printf 'state     down\n'
    exit 3
fi
