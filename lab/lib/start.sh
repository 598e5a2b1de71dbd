# shellcheck shell=bash
# Starting a lab from one of its snapshots.
# Needs common.sh, hardware.sh, key.sh, accel.sh, ssh.sh and machine.sh.

# Gives the instance a disk of its own, unless it has one of this build.
lab_prepare_instance() {
    local base accel snapshot
    base="$LAB_CACHE/$(lab_key)"
    [[ -d "$base" ]] || die "nothing is built for this checkout yet; run: $LAB_CALLER build"
    accel="$(lab_accel "$base")"
    snapshot="$base/$(lab_snapshot_file "$accel")"
    [[ -f "$snapshot" ]] || die "no snapshot for $accel yet; run: $LAB_CALLER build"
    touch "$base"
    [[ "$(cat "$LAB_INSTANCE/built" 2>/dev/null)" == "$snapshot" ]] && return
    rm -f "$LAB_INSTANCE/built"
    cp --reflink=auto "$base"/{vmlinux,initrd,key,known_hosts} "$LAB_INSTANCE/"
    cp --reflink=auto --sparse=auto "$snapshot" "$LAB_INSTANCE/disk.qcow2"
    printf '%s' "$accel" >"$LAB_INSTANCE/accel"
    printf '%s' "$snapshot" >"$LAB_INSTANCE/built"
}

lab_accel_of_instance() { cat "$LAB_INSTANCE/accel"; }

lab_has_snapshot() { # NAME
    qemu-img snapshot -U -l "$LAB_INSTANCE/disk.qcow2" | awk 'NR > 2 { print $2 }' | grep -xF "$1" >/dev/null
}

lab_start_from() { # SNAPSHOT
    lab_has_snapshot "$1" || die "the lab \"$LAB_NAME\" has no snapshot \"$1\""
    lab_launch "$(lab_accel_of_instance)" -loadvm "$1"
    lab_settle
}

# lab_cold_boot: from the disk as it is now.
lab_cold_boot() {
    lab_launch "$(lab_accel_of_instance)"
    lab_settle
}
