#!/bin/bash
# lab confine: makes the lab as confined as a stock Debian host, and boots it so: AppArmor enforces, guests run
# as libvirt's own user, in cgroups and namespaces, under a profile each. "reset" ends it. With
# VGPUD_LAB_APPARMOR=1, later cold boots ("cut") of this lab have it too.
. "$LAB_DIR/lib/all.sh"

lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
lab_open_ssh || die "the lab does not answer"
# shellcheck disable=SC2016 # expanded in the lab
lab_ssh bash -c '
    set -e
    # What the lab adds to the stock file is at its end.
    sed -i "/^# The lab: nested starts/,\$d" /etc/libvirt/qemu.conf
    # Compiling profiles of programs that are not here would take most of the boot.
    find /etc/apparmor.d -maxdepth 1 -type f ! -name "*libvirt*" -delete
    # Guests write their serial lines there, as whoever they are.
    chmod 1777 /var/log/vgpud-lab
    sync'
lab_kill
VGPUD_LAB_APPARMOR=1 lab_cold_boot
lab_ssh bash -c '
    [[ "$(cat "/proc/$(pidof libvirtd)/attr/current")" == "libvirtd (enforce)" ]] || { echo "libvirtd is not confined" >&2; exit 1; }'
