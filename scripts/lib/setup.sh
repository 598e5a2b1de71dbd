# shellcheck shell=bash
# What building and testing need on this machine. Needs common.sh. The lab's own needs are installed
# by scripts/lab.

# To compile: a linker, libvirt's headers. To test: umockdev replays recorded hosts, xmllint and
# virt-xml-validate judge our XML, shellcheck judges the scripts, fusermount3 lets ordinary users
# mount the fake kernel.
build_packages=(gcc libc6-dev make pkg-config libvirt-dev binutils)
test_packages=(shellcheck umockdev libvirt-clients libxml2-utils fuse3 python3)

is_installed() {
    # pkg-config is a transitional name in newer Debian; what counts is the command.
    [[ "$1" != pkg-config ]] || { command -v pkg-config >/dev/null && return; }
    [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

install_packages() {
    local package
    local -a missing=()
    command -v apt-get >/dev/null ||
        die "this command installs what it needs through apt, and this machine has none"
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    # Packages that are known already need no new lists, unless those are stale.
    quietly "installing ${missing[*]}" apt_install "${missing[@]}"
}

apt_install() {
    local -a install=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install)
    if [[ -n "$(apt-get indextargets --format '$(CREATED_BY)' 'Identifier: Packages' 2>/dev/null)" ]] &&
        as_root "${install[@]}" "$@"; then
        return
    fi
    as_root apt-get -q update
    as_root "${install[@]}" "$@"
}

# at_least VERSION WANTED
at_least() { [[ "$(printf '%s\n' "$2" "$1" | sort -V | head -n1)" == "$2" ]]; }

find_rust() {
    # rustup's own place, for shells that have not read its profile.
    command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    export PATH
}

check_rust() {
    local wanted have component
    wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repository/Cargo.toml")"
    find_rust
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "cargo and rustc $wanted or newer are needed; $(how_to_get_rust)"
    fi
    have="$(cd "$repository" && rustc --version | awk '{ print $2 }')"
    at_least "${have%%-*}" "$wanted" ||
        die "rustc is $have, $wanted or newer is needed; $(how_to_get_rust)"
    for component in "$@"; do
        (cd "$repository" && cargo "$component" --version) >/dev/null 2>&1 ||
            die "cargo $component is missing; with rustup: rustup component add $component"
    done
}

how_to_get_rust() {
    printf '%s' "Debian's own (1.63 in 12, 1.85 in 13) is too old: install rustup (Debian 13: apt install rustup; " \
        "else as the Rust project describes), then type: rustup default stable"
}

setup_to_build() {
    install_packages "${build_packages[@]}"
    check_rust
}

setup_to_test() {
    install_packages "${build_packages[@]}" "${test_packages[@]}"
    check_rust fmt clippy
}
