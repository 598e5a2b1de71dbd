#!/bin/bash
# The kernel's own sample mdev drivers and the lab's GPUs (kmod/), built against the headers of the lab's
# kernel; and the program by which a nested guest reads a BAR.
# Usage, as root: modules.sh DIR: leaves the modules and "slice" in DIR/out
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/mirror.sh"

mkdir "$1"
tree="$1/tree"
out="$1/out"

# "extract" unpacks without running maintainer scripts, which is all that a compiler needs.
lab_bootstrap "$tree" extract \
    linux-headers-amd64,linux-source,make,gcc,bash,dash,coreutils,sed,grep,mawk,findutils,libc-bin,diffutils
ln -sf mawk "$tree/usr/bin/awk"

mkdir "$tree/build" "$out"
tar --extract --xz --file "$(echo "$tree"/usr/src/linux-source-*.tar.xz)" \
    --directory "$tree/build" --strip-components=3 --wildcards '*/samples/vfio-mdev/*'
rm "$tree/build/Makefile"
printf 'obj-m := mtty.o mdpy.o mbochs.o\n' >"$tree/build/Kbuild"

headers="$(basename "$tree"/usr/src/linux-headers-*-amd64)"
chroot "$tree" /usr/bin/make --silent -C "/usr/src/$headers" M=/build modules
cp "$tree"/build/{mtty,mdpy,mbochs}.ko "$out/"

# Written for Debian 13's kernel; the lab of Debian 12 does without it.
if [[ "$LAB_SUITE" != bookworm ]]; then
    mkdir "$tree/kmod"
    cp "$LAB_DIR"/kmod/{Kbuild,*.c,*.h} "$tree/kmod/"
    chroot "$tree" /usr/bin/make --silent -C "/usr/src/$headers" M=/kmod modules
    chroot "$tree" /usr/bin/strip --strip-debug /kmod/vgpu-sim.ko
    cp "$tree/kmod/vgpu-sim.ko" "$out/"
fi

cp "$LAB_DIR/image/guest/slice.c" "$tree/build/"
chroot "$tree" /usr/bin/gcc -O2 -Wall -Werror -static -nostdlib -fno-stack-protector -fno-builtin \
    -o /build/slice /build/slice.c
cp "$tree/build/slice" "$out/"
