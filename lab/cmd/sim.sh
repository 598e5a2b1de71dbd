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
# A client of NVIDIA's library lets go when it has been idle for some seconds.
lab_ssh sh -c 'for _ in 1 2 3 4 5 6; do
        grep -q "^vgpu_sim " /proc/modules || exit 0
        rmmod vgpu-sim 2>/tmp/rmmod && exit 0
        sleep 1
    done
    cat /tmp/rmmod >&2
    exit 1' ||
    die "vgpu-sim is in use: stop its guests and take their functions from vfio-pci first"
[[ -n "$gpus" ]] || exit 0
lab_ssh modprobe vgpu-sim "gpus=$gpus" "${parameters[@]}" || die "the lab has no such GPUs; its kernel log tells more"
