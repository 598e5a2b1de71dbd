# shellcheck shell=bash
# What the checks say things with.

lab() { "$LAB_CALLER" "$@"; }

# in_lab [ARGUMENT...]: runs the script on standard input in the lab; stops at the first failure.
in_lab() {
    lab run bash -c 'set -euo pipefail
        equal() { [[ "$1" == "$2" ]] || { printf "%s: got \"%s\", expected \"%s\"\n" "$3" "$1" "$2"; exit 1; }; }
        # errno_of FILE VALUE: what writing answers, in words; "ok" when it works.
        errno_of() { local e; if e="$( { printf %s "$2" >"$1"; } 2>&1)"; then echo ok; else echo "${e##*: }"; fi; }
        . /dev/stdin' - "$@"
}

fail() {
    printf '%s\n' "$*"
    exit 1
}

equal() { # GOT EXPECTED WHAT
    [[ "$1" == "$2" ]] || fail "$3: got \"$1\", expected \"$2\""
}
