# shellcheck shell=bash
# Names, paths and small helpers. Every command and every build step reads this first.
set -euo pipefail

: "${LAB_DIR:?start this through scripts/lab}"

# Which Debian is the host inside: by its number, or by any suite's name.
lab_suite() {
    case "${VGPUD_LAB_DEBIAN:-13}" in
        12) printf bookworm ;;
        13) printf trixie ;;
        *) printf 'lab: VGPUD_LAB_DEBIAN: 12 or 13\n' >&2 && exit 1 ;;
    esac
}

LAB_SUITE="${VGPUD_LAB_SUITE:-$(lab_suite)}"
LAB_CACHE="${VGPUD_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vgpud-lab}"

# Checkouts do not disturb each other: the default name tells them apart.
lab_default_name() {
    local checkout
    checkout="$(dirname "$LAB_DIR")"
    printf '%s-%s' "$(basename "$checkout" | tr -cd 'a-zA-Z0-9_-')" \
        "$(printf '%s' "$checkout" | sha256sum | cut -c1-6)"
    [[ "$LAB_SUITE" == trixie ]] || printf -- '-%s' "$LAB_SUITE"
}

LAB_NAME="${VGPUD_LAB_NAME:-$(lab_default_name)}"
LAB_RUN="${XDG_RUNTIME_DIR:-/tmp}/vgpud-lab-$(id -u)/$LAB_NAME"
LAB_SHARE="${VGPUD_LAB_SHARE:-$LAB_RUN/share}"
# Disks are large, and the run directory may be a small tmpfs.
LAB_INSTANCE="$LAB_CACHE/instances/$LAB_NAME"

note() { printf 'lab: %s\n' "$*" >&2; }

die() {
    printf 'lab: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this needs root: run it as root, or install sudo"
    fi
}

# lab_lock FILE: wait for the lock, hold it on descriptor 9 until this process ends.
# Whatever outlives us must be started with 9>&-.
lab_lock() {
    mkdir -p "$(dirname "$1")"
    exec 9>"$1"
    if ! flock --nonblock 9; then
        note "waiting for another lab command ($1)"
        flock 9
    fi
}

lab_prepare_run_dir() {
    [[ "$LAB_NAME" =~ ^[a-zA-Z0-9_-]{1,40}$ ]] || die "VGPUD_LAB_NAME: letters, digits, - and _ only, at most 40"
    (umask 077 && mkdir -p "$(dirname "$LAB_RUN")")
    [[ -O "$(dirname "$LAB_RUN")" ]] || die "$(dirname "$LAB_RUN") belongs to somebody else"
    mkdir -p "$LAB_RUN" "$LAB_INSTANCE"
}
