#!/bin/bash
# lab sim PRESET... [PARAMETER=VALUE...]: the lab gets these GPUs instead of those it had from vgpu-sim.
# lab sim off: it has none again.
. "$LAB_DIR/lib/all.sh"

(($# > 0)) || die "usage: lab sim PRESET... [PARAMETER=VALUE...] | off"
gpus="" parameters=()
for word in "$@"; do
    case "$word" in
        off) ;;
        *=*) parameters+=("$word") ;;
        *) gpus+="${gpus:+,}$word" ;;
    esac
done
lab_require_up
lab_open_ssh || die "the lab does not answer"
lab_ssh sh -c '! grep -q "^vgpu_sim " /proc/modules || rmmod vgpu-sim' ||
    die "vgpu-sim is in use: stop its guests and take their functions from vfio-pci first"
[[ -n "$gpus" ]] || exit 0
lab_ssh modprobe vgpu-sim "gpus=$gpus" "${parameters[@]}" || die "the lab has no such GPUs; its kernel log tells more"
