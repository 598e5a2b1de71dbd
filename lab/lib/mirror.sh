# shellcheck shell=bash
# Where Debian packages come from: the mirror this machine already uses.

# Prints the URI of the Debian archive; empty when the machine has none.
lab_mirror_from_apt() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' 'Identifier: Packages' 2>/dev/null |
        awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "main" { print $4; exit }'
}

lab_mirror() {
    if [[ -n "${VGPUD_LAB_MIRROR:-}" ]]; then
        printf '%s' "$VGPUD_LAB_MIRROR"
        return
    fi
    local mirror
    mirror="$(lab_mirror_from_apt)"
    if [[ -z "$mirror" ]]; then
        as_root apt-get update >&2
        mirror="$(lab_mirror_from_apt)"
    fi
    [[ -n "$mirror" ]] ||
        die "no Debian mirror in this machine's apt sources; set VGPUD_LAB_MIRROR to one (http://HOST/debian)"
    printf '%s' "$mirror"
}

# lab_bootstrap DIR VARIANT PACKAGES [MMDEBSTRAP-OPTION...]: a Debian tree in DIR.
lab_bootstrap() {
    local dir="$1" variant="$2" packages="$3" mirror keyring proxy
    local -a options=()
    shift 3
    mirror="$(lab_mirror)"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    proxy="$(apt-config shell p Acquire::http::Proxy | sed -n "s/^p='\(.*\)'$/\1/p")"
    [[ -z "$proxy" ]] || options+=(--aptopt="Acquire::http::Proxy \"$proxy\"")
    as_root env INITRD=No mmdebstrap --quiet --mode=root --format=directory --architectures=amd64 \
        --variant="$variant" --include="$packages" --keyring="$keyring" \
        --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='force-unsafe-io' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "${options[@]}" "$@" \
        "$LAB_SUITE" "$dir" "deb [signed-by=$keyring] $mirror $LAB_SUITE main"
}
