#!/bin/bash
# What QEMU boots directly: the lab's kernel, uncompressed, and its small initrd; and the same for
# nested guests, inside the root.
# Usage, as root: boot.sh ROOT OUT: leaves OUT/vmlinux and OUT/initrd
. "$LAB_DIR/lib/common.sh"

root="$1" out="$2"
kernel="$(basename "$root"/lib/modules/*)"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# An uncompressed kernel boots by its PVH entry, which saves the decompressor.
extract_kernel() {
    /usr/bin/python3 -I "$LAB_DIR/build/payload.py" "$root/boot/vmlinuz-$kernel" "$scratch/payload"
    case "$(head -c4 "$scratch/payload" | od -An -tx1 | tr -d ' ')" in
        28b52ffd) zstd -q -d -f "$scratch/payload" -o "$out/vmlinux" ;;
        fd377a58) xz --decompress --stdout "$scratch/payload" >"$out/vmlinux" ;;
        *) die "the kernel is compressed in a way this script does not know" ;;
    esac
}

pack() { # DIRECTORY FILE
    (cd "$1" && find . -print0 | LC_ALL=C sort -z | cpio --null --quiet --create --format=newc --owner=0:0) >"$2"
}

skeleton() { # DIRECTORY INIT
    mkdir -p "$1"/{bin,proc,sys,dev,root}
    cp "$root/usr/bin/busybox" "$1/bin/busybox"
    install -m 755 "$2" "$1/init"
}

make_initrd() {
    local dir="$scratch/initrd" path
    skeleton "$dir" "$LAB_DIR/image/initrd-init"
    mkdir "$dir/modules"
    chroot "$root" modprobe -S "$kernel" --all --show-depends virtio_pci virtio_blk ext4 virtio_net |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$scratch/order"
    while read -r path; do
        cp "$root$path" "$dir/modules/"
        printf '/modules/%s\n' "$(basename "$path")"
    done <"$scratch/order" >"$dir/modules/order"
    mkdir -p "$dir/kernel/firmware/acpi"
    /usr/bin/python3 -I "$LAB_DIR/build/dmar.py" "$dir/kernel/firmware/acpi/dmar.aml"
    pack "$dir" "$out/initrd"
}

make_guest() {
    local dir="$scratch/guest" assets="$root/var/lib/vgpud-lab/guest"
    skeleton "$dir" "$LAB_DIR/image/guest/init"
    cp "$root/lib/modules/$kernel/kernel/drivers/acpi/button.ko" \
        "$root/lib/modules/$kernel/kernel/drivers/input/evdev.ko" "$dir/"
    cp "$root/usr/lib/vgpud-lab/slice" "$dir/bin/"
    pack "$dir" "$assets/initrd"
    cp "$out/vmlinux" "$assets/vmlinux"
    cp "$LAB_DIR/image/guest/cmdline" "$assets/cmdline"
}

extract_kernel
make_initrd
make_guest
