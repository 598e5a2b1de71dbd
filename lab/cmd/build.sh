#!/bin/bash
# lab build: makes what "up" starts from, unless it is there already.
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/hardware.sh"
. "$LAB_DIR/lib/key.sh"
. "$LAB_DIR/lib/accel.sh"

key="$(lab_key)"
base="$LAB_CACHE/$key"

# step NAME SCRIPT ARGUMENT...: a build step as root, its output in a log that is shown on failure.
step() {
    local name="$1" script="$2" began=$SECONDS
    shift 2
    if ! as_root env LAB_DIR="$LAB_DIR" VGPUD_LAB_SUITE="$LAB_SUITE" PATH="$PATH" \
        ${VGPUD_LAB_MIRROR:+VGPUD_LAB_MIRROR="$VGPUD_LAB_MIRROR"} \
        bash "$LAB_DIR/build/$script" "$@" >"$work/$script.log" 2>&1; then
        tail -n 30 "$work/$script.log" >&2
        die "$name failed"
    fi
    note "$name: $((SECONDS - began)) s"
}

# NVIDIA's library and tools for vgpu-sim, built as whoever called: cargo's caches are theirs. The lab of Debian 12
# has no vgpu-sim.
nvidia_stand_ins() {
    local began=$SECONDS
    mkdir "$1"
    [[ "$LAB_SUITE" != bookworm ]] || return 0
    if ! VGPUD_LAB_NVML_TARGET="${VGPUD_LAB_NVML_TARGET:-$LAB_CACHE/nvml-target}" \
        bash "$LAB_DIR/nvml/install" "$1" >"$work/nvml.log" 2>&1; then
        tail -n 30 "$work/nvml.log" >&2
        die "NVIDIA's stand-ins failed"
    fi
    note "NVIDIA's stand-ins: $((SECONDS - began)) s"
}

build_base() {
    local modules
    work="$(mktemp -d "$LAB_CACHE/building.XXXXXX")"
    trap 'as_root rm -rf "$work"' EXIT
    mkdir "$work/out"
    step "sample drivers" modules.sh "$work/samples" &
    modules=$!
    step "packages" rootfs.sh "$work/root"
    wait "$modules" || die "the sample drivers could not be built"
    nvidia_stand_ins "$work/nvidia"
    printf '%s\n' "$LAB_SUITE" >"$work/out/suite"
    ssh-keygen -q -t ed25519 -N '' -C vgpud-lab -f "$work/out/key"
    step "image" image.sh "$work/root" "$work/samples/out" "$work/nvidia" "$work/out/key.pub" "$key"
    step "kernel and initrds" boot.sh "$work/root" "$work/out"
    step "disk" disk.sh "$work/root" "$work/out"
    printf 'vgpud-lab %s\n' "$(cut -d' ' -f1,2 "$work/root/etc/ssh/ssh_host_ed25519_key.pub")" >"$work/out/known_hosts"
    as_root chown -R "$(id -u):$(id -g)" "$work/out"
    rm -rf "$base"
    mv "$work/out" "$base"
    as_root rm -rf "$work"
    trap - EXIT
}

# The two newest of each suite stay, so that two checkouts do not take turns building.
prune() {
    local name
    touch "$base"
    find "$LAB_CACHE" -mindepth 1 -maxdepth 1 -type d -regextype posix-extended -regex '.*/[0-9a-f]{16}' \
        -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2- | while read -r name; do
        printf '%s %s\n' "$(cat "$name/suite" 2>/dev/null || printf trixie)" "$name"
    done | awk '++built[$1] > 2 { print $2 }' | xargs -r rm -rf
    find "$LAB_CACHE" -mindepth 1 -maxdepth 1 -type d -name 'building.*' -mmin +120 -print0 | as_root xargs -0 -r rm -rf
}

main() {
    local began=$SECONDS accel snapshot
    mkdir -p "$LAB_CACHE"
    lab_lock "$LAB_CACHE/build.lock"
    bash "$LAB_DIR/build/host-packages.sh"
    [[ -d "$base" ]] || build_base
    accel="$(lab_accel "$base")"
    snapshot="$base/$(lab_snapshot_file "$accel")"
    if [[ ! -f "$snapshot" ]]; then
        bash "$LAB_DIR/build/snapshot.sh" "$base" "$accel" "$snapshot"
    fi
    prune
    note "built ($key, $accel) in $((SECONDS - began)) s"
}

main
