# shellcheck shell=bash
# The name of a built lab: a hash over everything that decides what is in it.

lab_key() {
    {
        printf 'suite %s\n' "$LAB_SUITE"
        cd "$LAB_DIR" || die "no $LAB_DIR"
        find build image kmod nvml/src nvml/Cargo.{toml,lock} nvml/install lib/hardware.sh -type f -print0 | sort -z | xargs -0 sha256sum
        find build image kmod -type f -perm -u=x | sort
    } | sha256sum | cut -c1-16
}

# A snapshot holds the state of one accelerator under one QEMU.
lab_snapshot_file() { # ACCEL
    local version
    version="$(qemu-system-x86_64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')"
    printf 'ready-%s-%s.qcow2' "$1" "$version"
}
