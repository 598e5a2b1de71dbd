#!/bin/bash
# lab split: libvirt's QEMU driver runs in its own daemon, virtqemud, and libvirtd is off; before install-lab. "reset"
# to a snapshot from before ends it. Builds virtqemud once, from Debian's source of the lab's libvirt.
. "$LAB_DIR/lib/all.sh"

[[ "$LAB_SUITE" == trixie ]] || die "virtqemud is built for Debian 13's libvirt only"
key="$( (printf '%s\n' "$LAB_SUITE" && cat "$LAB_DIR/split/virtqemud.sh") | sha256sum | cut -c1-12)"
built="$LAB_CACHE/virtqemud-$key.tar"

build_virtqemud() {
    local work began=$SECONDS
    work="$(mktemp -d "$LAB_CACHE/building.XXXXXX")"
    # shellcheck disable=SC2064 # the directory as it is now
    trap "as_root rm -rf '$work'" EXIT
    if ! as_root env LAB_DIR="$LAB_DIR" VGPUD_LAB_SUITE="$LAB_SUITE" PATH="$PATH" \
        ${VGPUD_LAB_MIRROR:+VGPUD_LAB_MIRROR="$VGPUD_LAB_MIRROR"} \
        bash "$LAB_DIR/split/virtqemud.sh" "$work" >"$work/log" 2>&1; then
        tail -n 30 "$work/log" >&2
        die "virtqemud could not be built"
    fi
    rm -f "$LAB_CACHE"/virtqemud-*.tar
    tar --create --owner=0 --group=0 --directory "$work/out" --file "$built.new" usr
    mv "$built.new" "$built"
    note "virtqemud: $((SECONDS - began)) s"
}

lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
lab_open_ssh || die "the lab does not answer"
[[ -f "$built" ]] || build_virtqemud
lab_ssh tar --extract --directory / --keep-directory-symlink --no-same-owner <"$built"
# shellcheck disable=SC2016 # expanded in the lab
lab_ssh bash -c '
    set -e
    has() { "$1" --version | grep -oE "[0-9.]+\$"; }
    [[ "$(has virtqemud)" == "$(has libvirtd)" ]] ||
        { echo "virtqemud $(has virtqemud) is not of the lab'\''s libvirt $(has libvirtd): remove it from the cache" >&2; exit 1; }
    systemctl disable --now libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service 2>/dev/null
    systemctl mask libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket 2>/dev/null
    # Without libvirtd there is nobody who probes for a driver.
    printf "uri_default = \"qemu:///system\"\n" >>/etc/libvirt/libvirt.conf
    # It stays, as libvirtd does here: waking it takes seconds.
    printf "VIRTQEMUD_ARGS=\"\"\n" >/etc/default/virtqemud
    systemctl daemon-reload
    systemctl enable virtqemud.socket virtqemud-ro.socket virtqemud-admin.socket virtqemud.service 2>/dev/null
    systemctl start virtqemud.socket virtqemud-ro.socket virtqemud-admin.socket virtqemud.service
    virsh --quiet list
    ! pidof libvirtd >/dev/null'
