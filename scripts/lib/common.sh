# shellcheck shell=bash
# What the commands of scripts/ share: words, headlines, time.
set -euo pipefail

repository="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)"
export PATH="$PATH:/usr/sbin:/sbin"
program="${program:-$(basename "$0")}"

bold="" dim="" red="" green="" plain=""
if [[ -t 1 && -z "${NO_COLOR:-}" && "${TERM:-dumb}" != dumb ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi

note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }

die() {
    printf '%s%s: %s%s\n' "$red" "$program" "$*" "$plain" >&2
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

headline() { printf '%s== %s%s\n' "$bold" "$*" "$plain"; }

# quietly WHAT COMMAND...: one line with the time it took; its output only when it fails.
quietly() {
    local what="$1" began=$SECONDS log
    shift
    log="$(mktemp)"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        die "failed: $what"
    fi
    rm -f "$log"
    note "$what: $((SECONDS - began)) s"
}

# A job that runs beside the others: start_aside WHAT COMMAND..., then wait_aside; stop_aside at the
# end in any case.
aside_pid="" aside_log="" aside_what=""

start_aside() {
    aside_what="$1"
    shift
    aside_log="$(mktemp)"
    # A group of its own, so that all of it can be stopped.
    setsid "$@" >"$aside_log" 2>&1 </dev/null &
    aside_pid=$!
}

# wait_aside [show]: with "show", what it printed too.
wait_aside() {
    local began=$SECONDS code=0
    wait "$aside_pid" || code=$?
    aside_pid=""
    if ((code != 0)); then
        cat "$aside_log" >&2
        rm -f "$aside_log"
        die "failed: $aside_what"
    fi
    [[ "${1:-}" != show ]] || cat "$aside_log"
    rm -f "$aside_log"
    note "$aside_what: waited $((SECONDS - began)) s for it"
}

stop_aside() {
    [[ -n "$aside_pid" ]] || return 0
    kill -TERM -- "-$aside_pid" 2>/dev/null || true
    wait "$aside_pid" 2>/dev/null || true
    rm -f "$aside_log"
    aside_pid=""
}
