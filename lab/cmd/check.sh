#!/bin/bash
# lab check [WORD]: the lab's own tests, in a lab of their own. Each function check_* of the files
# in lab/check/ is one; with WORD only those whose name contains it.
. "$LAB_DIR/lib/common.sh"

filter="${1:-}"
export VGPUD_LAB_NAME="${LAB_NAME:0:34}-check"
export VGPUD_LAB_TTL="${VGPUD_LAB_TTL:-1800}"
unset VGPUD_LAB_SHARE

passed=0 failed=0
output="$(mktemp)"
cleanup() {
    rm -f "$output"
    "$LAB_CALLER" down
    rm -rf "$LAB_CACHE/instances/$VGPUD_LAB_NAME"
}
trap cleanup EXIT

# run_check FILE FUNCTION: in a shell of its own, so that one check cannot break the next.
run_check() {
    local name="${2#check_}" began ended
    began="$(date +%s%N)"
    if bash -c 'set -euo pipefail; . "$LAB_DIR/check/lib/witness.sh"; . "$1"; "$2"' - "$1" "$2" >"$output" 2>&1 </dev/null; then
        result="ok  " passed=$((passed + 1))
    else
        result=FAIL failed=$((failed + 1))
    fi
    ended="$(date +%s%N)"
    printf '%s %6s s  %s\n' "$result" "$(awk -v ns=$((ended - began)) 'BEGIN { printf "%.1f", ns / 1e9 }')" "${name//_/ }"
    [[ "$result" == ok* ]] || sed 's/^/         /' "$output"
}

"$LAB_CALLER" up
for file in "$LAB_DIR"/check/*.sh; do
    while read -r function; do
        [[ "$function" == *"$filter"* ]] || continue
        run_check "$file" "$function"
    done < <(sed -n 's/^\(check_[a-z0-9_]*\)() {$/\1/p' "$file")
done
((passed + failed > 0)) || die "no check has \"$filter\" in its name"
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
