#!/bin/bash
# lab reboot: a clean reboot of the running lab.
. "$LAB_DIR/lib/all.sh"

lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
lab_open_ssh || die "the lab does not answer"
before="$(lab_ssh cat /proc/sys/kernel/random/boot_id)"
# Not "systemctl reboot": that asks logind, which the lab does not have.
lab_ssh systemctl --no-block --job-mode=replace-irreversibly start reboot.target
lab_close_ssh
deadline=$((SECONDS + LAB_BOOT_SECONDS))
until lab_open_ssh && now="$(lab_ssh cat /proc/sys/kernel/random/boot_id 2>/dev/null)" && [[ "$now" != "$before" ]]; do
    lab_close_ssh
    lab_is_up || die "QEMU ended"
    ((SECONDS < deadline)) || die "the lab did not come back within $LAB_BOOT_SECONDS s"
    sleep 0.5
done
lab_settle
