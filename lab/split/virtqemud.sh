#!/bin/bash
# virtqemud of the lab's own libvirt: Debian builds the one daemon only, from a source that has both. The binary and
# its units; the QEMU driver is the package's.
# Usage, as root: virtqemud.sh DIR: leaves them in DIR/out
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/mirror.sh"

tree="$1/tree"
out="$1/out"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# fetch PATTERN: the file of libvirt's source package, its hash checked; prints its name.
fetch() {
    local uri name size hash
    read -r uri name size hash < <(chroot "$tree" apt-get source --print-uris -q libvirt 2>/dev/null | grep -E "$1")
    [[ -n "${hash:-}" ]] || die "no source of libvirt in $LAB_SUITE: $1"
    chroot "$tree" /usr/lib/apt/apt-helper download-file "${uri//\'/}" "/src/$name" "$hash" >&2 || die "$name, $size bytes, cannot be had"
    printf '%s' "$name"
}

mkdir -p "$out"
lab_bootstrap "$tree" apt \
    meson,ninja-build,gcc,libc6-dev,pkgconf,dpkg-dev,gettext,python3-docutils,xsltproc,qemu-system-common,iproute2,libxml2-utils,libglib2.0-dev,libxml2-dev,libgnutls28-dev,libtirpc-dev,libjson-c-dev,libcap-ng-dev,libudev-dev,libpciaccess-dev,libnl-3-dev,libnl-route-3-dev,libapparmor-dev,libnuma-dev,libacl1-dev,libattr1-dev,libblkid-dev \
    --customize-hook="printf 'deb-src [signed-by=$keyring] $(lab_mirror) $LAB_SUITE main\n' >\"\$1/etc/apt/sources.list.d/source.list\"" \
    --customize-hook="mkdir -p \"\$1$(dirname "$keyring")\" \"\$1/src\" && cp $keyring \"\$1$keyring\""
# The mirror's name is looked up from in there.
cp /etc/resolv.conf "$tree/etc/resolv.conf"
chroot "$tree" apt-get update -q

mkdir "$tree/src/libvirt"
upstream="$(fetch '\.orig\.tar\.xz ')"
debian="$(fetch '\.debian\.tar\.xz ')"
tar --extract --file "$tree/src/$upstream" --directory "$tree/src/libvirt" --strip-components=1
tar --extract --file "$tree/src/$debian" --directory "$tree/src/libvirt"
while read -r patch; do
    patch --quiet --strip=1 --directory "$tree/src/libvirt" <"$tree/src/libvirt/debian/patches/$patch"
done < <(grep -v '^#' "$tree/src/libvirt/debian/patches/series")

# What the daemon and its protocol need, as Debian sets it; the drivers come from the package.
chroot "$tree" sh -c '
    set -e
    cd /src/libvirt
    meson setup build --buildtype=plain --prefix=/usr --sysconfdir=/etc --localstatedir=/var \
        --libdir=lib/x86_64-linux-gnu -Drunstatedir=/run -Dsystem=true -Dauto_features=disabled \
        -Dinit_script=systemd -Dqemu_user=libvirt-qemu -Dqemu_group=libvirt-qemu \
        -Ddriver_libvirtd=enabled -Ddriver_remote=enabled -Ddriver_qemu=enabled \
        -Dapparmor=enabled -Dsecdriver_apparmor=enabled -Dattr=enabled -Dblkid=enabled -Dcapng=enabled \
        -Djson_c=enabled -Dlibnl=enabled -Dnumactl=enabled -Dpciaccess=enabled -Dudev=enabled \
        -Dpolkit=disabled -Ddocs=disabled -Dtests=disabled
    ninja -C build src/virtqemud
    strip build/src/virtqemud'
mkdir -p "$out"/usr/sbin "$out"/usr/lib/systemd/system
cp "$tree/src/libvirt/build/src/virtqemud" "$out/usr/sbin/"
cp "$tree"/src/libvirt/build/src/virtqemud{.service,.socket,-ro.socket,-admin.socket} "$out/usr/lib/systemd/system/"
