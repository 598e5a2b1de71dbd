#!/bin/bash
# The kernel's own sample mdev drivers, built against the headers of the lab's kernel.
# Usage, as root: modules.sh DIR: leaves mtty.ko, mdpy.ko and mbochs.ko in DIR/out
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
