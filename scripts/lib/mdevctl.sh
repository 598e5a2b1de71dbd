# shellcheck shell=bash
# An mdevctl that honours MDEVCTL_ENV_ROOT (1.4 and newer), to compare with. Needs common.sh.

mdevctl_cache="${XDG_CACHE_HOME:-$HOME/.cache}/vgpud-bench"

# is_usable_mdevctl ROOT COMMAND...
is_usable_mdevctl() {
    local version root="$1"
    shift
    # It wants its directories below the root even to tell its version.
    version="$(MDEVCTL_ENV_ROOT="$root" "$@" --version 2>/dev/null | awk '{ print $2 }')" || return 1
    [[ -n "$version" && "$(printf '%s\n' 1.4 "$version" | sort -V | head -n1)" == 1.4 ]]
}

# find_mdevctl: leaves the words of a usable one in the array $mdevctl: this machine's, or Debian 13's
# unpacked into the cache, with its own C library where this machine's is too old. Nothing is
# installed, and the machine's apt sources stay as they are.
find_mdevctl() {
    local unpacked="$mdevctl_cache/trixie"
    local loader="$unpacked/usr/lib64/ld-linux-x86-64.so.2" libraries="$unpacked/usr/lib/x86_64-linux-gnu"
    mdevctl=(mdevctl)
    if is_usable_mdevctl / "${mdevctl[@]}"; then return; fi
    [[ -d "$unpacked" ]] || quietly "fetching mdevctl" unpack_mdevctl "$unpacked"
    mdevctl=("$unpacked/usr/bin/mdevctl")
    if is_usable_mdevctl "$unpacked" "${mdevctl[@]}"; then return; fi
    # The process is the same but for where its loader looks.
    mdevctl=("$loader" --library-path "$libraries" "$unpacked/usr/bin/mdevctl")
    is_usable_mdevctl "$unpacked" "${mdevctl[@]}" || die "Debian 13's mdevctl does not run on this machine"
}

# unpack_mdevctl DIRECTORY
unpack_mdevctl() {
    local apt mirror package
    mirror="${VGPUD_LAB_MIRROR:-$(apt-get indextargets --format '$(ORIGIN)|$(COMPONENT)|$(REPO_URI)' \
        'Identifier: Packages' | awk -F'|' '$1 == "Debian" && $2 == "main" { print $3; exit }')}"
    [[ -n "$mirror" ]] || die "no Debian mirror in this machine's apt sources; set VGPUD_LAB_MIRROR to one"
    mkdir -p "$mdevctl_cache"
    apt="$(mktemp -d "$mdevctl_cache/apt.XXXXXX")"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/out"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "$mirror" \
        >"$apt/sources.list"
    local -a private=(
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Dir::State::status=/dev/null
        -o APT::Sandbox::User=root -o Acquire::Languages=none
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    )
    apt-get "${private[@]}" -q update
    (cd "$apt" && apt-get "${private[@]}" -q download mdevctl libc6 libgcc-s1)
    for package in "$apt"/*.deb; do
        dpkg-deb --extract "$package" "$apt/out"
    done
    mv -T "$apt/out" "$1"
    rm -rf "$apt"
}
