#!/bin/bash
# Turns a plain Debian root into the lab's: modules, our files, units, the nested guest.
# Usage, as root: image.sh ROOT SAMPLES NVIDIA AUTHORIZED_KEY VERSION
. "$LAB_DIR/lib/common.sh"

root="$1" samples="$2" nvidia="$3" authorized_key="$4" version="$5"
kernel="$(basename "$root"/lib/modules/*)"
modules="$root/lib/modules/$kernel"

# Under TCG every module that must be decompressed costs, so those we keep are stored plain.
keep_modules() {
    local name
    local -a keep=()
    while read -r name; do
        mapfile -t -O "${#keep[@]}" keep < <(chroot "$root" modprobe -S "$kernel" --show-depends "$name" |
            awk '$1 == "insmod" { print $2 }')
    done < <(grep -v '^#' "$LAB_DIR/image/modules")
    local path plain
    for path in $(printf '%s\n' "${keep[@]}" | sort -u); do
        case "$path" in
            *.ko.xz) plain="${path%.xz}" && xz --decompress --keep --force "$root$path" ;;
            *.ko) plain="$path" ;;
            *) die "unexpected module $path" ;;
        esac
        mv "$root$plain" "$root$plain.kept"
    done
    find "$modules" -type f \( -name '*.ko.xz' -o -name '*.ko' \) -delete
    find "$modules" -name '*.ko.kept' | while read -r path; do mv "$path" "${path%.kept}"; done
    install -D -m 644 -t "$modules/updates" "$samples"/*.ko
    chroot "$root" depmod "$kernel"
}

install_our_files() {
    cp --recursive --no-preserve=ownership "$LAB_DIR/image/root/." "$root/"
    cp --recursive --no-preserve=ownership "$nvidia/." "$root/"
    chroot "$root" ldconfig

    install -D -m 755 -t "$root/usr/lib/vgpud-lab" "$samples/slice"
    cat "$LAB_DIR/image/qemu.conf" >>"$root/etc/libvirt/qemu.conf"
    install -D -m 600 "$authorized_key" "$root/root/.ssh/authorized_keys"
    rm -f "$root"/etc/ssh/ssh_host_*
    chroot "$root" ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
    printf 'vgpud-lab\n' >"$root/etc/hostname"
    printf '127.0.0.1 localhost vgpud-lab\n' >"$root/etc/hosts"
    printf '/dev/vda / ext4 errors=remount-ro 0 1\n' >"$root/etc/fstab"
    printf '%s\n' "$version" >"$root/etc/vgpud-lab"
    mkdir -p "$root/mnt/host" "$root/var/log/vgpud-lab" "$root/var/lib/vgpud-lab/guest"
    # Set, so that the first boot is like any other.
    printf '%s\n' "${version}0000000000000000" | cut -c1-32 | tr -c '0-9a-f\n' 0 >"$root/etc/machine-id"
}

arrange_units() {
    local unit
    while read -r unit; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done < <(grep -v '^#' "$LAB_DIR/image/masked-units")
    # A masked machined must not be started by D-Bus either: domain starts would fail.
    rm -f "$root/usr/share/dbus-1/system-services/org.freedesktop.machine1.service"
    # Nobody needs libvirt's own NAT network, and it costs a second at boot.
    rm -f "$root/etc/libvirt/qemu/networks/autostart/default.xml"
    chroot "$root" systemctl --quiet enable vgpud-lab-kvm.service
    # libvirtd stays: waking it takes seconds.
    printf 'LIBVIRTD_ARGS=""\n' >"$root/etc/default/libvirtd"
}

drop_what_is_not_needed() {
    rm -rf "$root"/boot/{initrd.img,System.map}* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
}

keep_modules
install_our_files
arrange_units
drop_what_is_not_needed
# Or the first boot would run ldconfig and the like again.
touch "$root/etc/.updated" "$root/var/.updated"
