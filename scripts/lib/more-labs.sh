#!/bin/bash
# What scripts/test runs beside the lab tests, in labs of its own: the lab's own tests, lab tests that the first lab leaves
# out, torture, confined, and on wish with the split daemons. Each lab keeps one processor busy.
# Usage: more-labs.sh SPLIT "TEST..." CONFINED-TEST... [-- OPTION...]; VGPUD_TORTURE_* as scripts/test has set them.
program="test"
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/common.sh"

split="$1"
read -ra apart <<<"$2"
shift 2
confined=() options=()
while (($# > 0)) && [[ "$1" != -- ]]; do confined+=("$1") && shift; done
(($# == 0)) || options=("${@:2}")

cd "$repository"
trap 'scripts/lab down >/dev/null 2>&1 || true' EXIT
trap 'exit 130' INT TERM

# timed WHAT COMMAND...: a headline, the output as it comes, the time.
timed() {
    headline "$1"
    local since=$SECONDS
    shift
    "$@" </dev/null || exit 1
    note "   $((SECONDS - since)) s"
}

confined_lab() { scripts/lab reset && scripts/lab confine && scripts/install-lab; }

split_lab() { scripts/lab down && scripts/lab up && scripts/lab split && scripts/install-lab; }

timed "the lab's own tests" scripts/lab check
timed "another lab" scripts/lab up
timed "vgpud into it" scripts/install-lab
timed "lab tests that run here" cargo test --test lab -- --test-threads=1 "${options[@]}" "${apart[@]}"
timed "torture, $VGPUD_TORTURE_MINUTES minutes" \
    cargo test --quiet --test lab -- --nocapture torture::a_random_walk
timed "a confined lab" confined_lab
timed "lab tests, confined" env VGPUD_LAB_APPARMOR=1 \
    cargo test --test lab -- --test-threads=1 "${options[@]}" "${confined[@]}"
if [[ "$split" == yes ]]; then
    timed "a lab with virtqemud" split_lab
    timed "lab tests with virtqemud" env VGPUD_LAB_SPLIT=1 \
        cargo test --test lab -- --test-threads=1 --skip vendors:: journeys:: by_hand:: killed:: boot:: repoint::
fi
timed "that lab down" scripts/lab down
