#!/bin/bash
# Installs what the lab needs on this machine: through apt, and only what is missing.
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/mirror.sh"

declare -A package_of=(
    [mmdebstrap]=mmdebstrap [mke2fs]=e2fsprogs [zstd]=zstd [xz]=xz-utils [cpio]=cpio
    [ssh]=openssh-client [ssh-keygen]=openssh-client [python3]=python3 [flock]=util-linux
    [setsid]=util-linux [tar]=tar
)

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >&2
}

missing_packages() {
    local tool
    for tool in "${!package_of[@]}"; do
        command -v "$tool" >/dev/null || printf '%s\n' "${package_of[$tool]}"
    done | sort -u
    [[ -f "/usr/share/keyrings/debian-archive-$LAB_SUITE-stable.gpg" ]] || printf 'debian-archive-keyring\n'
}

# igb with SR-IOV came with QEMU 8.0.
qemu_is_usable() {
    command -v qemu-system-x86_64 >/dev/null && command -v qemu-img >/dev/null &&
        qemu-system-x86_64 -device help 2>/dev/null | grep '^name "igb"' >/dev/null
}

# Debian 12 has a new enough QEMU in its backports. They are read through an apt configuration of
# our own, so that the machine's sources stay as they are.
install_qemu_from_backports() { # CODENAME
    local apt mirror signed="signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
    mirror="$(lab_mirror)"
    apt="$(mktemp -d)"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    printf 'deb [%s] %s %s main\n' \
        "$signed" "$mirror" "$1" "$signed" "$mirror" "$1-backports" >"$apt/sources.list"
    local -a private=(
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root
    )
    apt_install "${private[@]}" -q update
    apt_install "${private[@]}" -q -y --no-install-recommends -t "$1-backports" install \
        qemu-system-x86 qemu-utils
    as_root rm -rf "$apt"
}

main() {
    local -a missing
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} > 0)) || ! qemu_is_usable; then
        [[ -n "$(lab_mirror_from_apt)" ]] || apt_install -q update
    fi
    if ((${#missing[@]} > 0)); then
        note "installing ${missing[*]}"
        apt_install -q -y --no-install-recommends install "${missing[@]}"
    fi
    qemu_is_usable && return
    local codename
    codename="$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")"
    note "installing QEMU"
    case "$codename" in
        bookworm) install_qemu_from_backports bookworm ;;
        *) apt_install -q -y --no-install-recommends install qemu-system-x86 qemu-utils ;;
    esac
    qemu_is_usable || die "the QEMU of this machine has no igb device (8.0 or later is needed)"
}

main
