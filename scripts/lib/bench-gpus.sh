# shellcheck shell=bash
# What scripts/bench measures on the lab's simulated GPUs: slices that come back, and the hook's prepare by backend.

# The functions below run in the lab. Their figures are in ms.

stop_unless_lab() { [[ -f /etc/vgpud-lab ]] || { echo "bench: this is not a lab" >&2 && exit 1; }; }

# passed SINCE: since an EPOCHREALTIME without its point, in ms with three digits behind the point.
passed() {
    local us=$((${EPOCHREALTIME/./} - $1))
    printf '%d.%03d' $((us / 1000)) $((us % 1000))
}

# await COUNT: until the kernel has so many mdevs. The glob and the pause need no process.
await() {
    local never deadline=$((SECONDS + 300))
    exec {never}<> <(:)
    shopt -s nullglob
    set -- "$1" /sys/bus/mdev/devices/*
    while (($# - 1 != $1)); do
        ((SECONDS < deadline)) || { echo "bench: $(($# - 1)) of $1 slices are there after 300 s" >&2 && exit 1; }
        read -r -t 0.05 -u "$never" || true
        set -- "$1" /sys/bus/mdev/devices/*
    done
}

# unload: the driver goes with all of its slices; a service that has just begun may look at it for a moment.
unload() {
    local never deadline=$((SECONDS + 60))
    exec {never}<> <(:)
    until rmmod vgpu-sim 2>/dev/null; do
        ((SECONDS < deadline)) || { rmmod vgpu-sim && return; }
        read -r -t 0.2 -u "$never" || true
    done
    await 0
    udevadm settle
}

# 64 guaranteed slices over four GPUs, whose driver is loaded anew: "OURS BARE", from the driver's load until all are
# there, a line a round; by the service, and by a shell that writes the 64 UUIDs into their "create".
rounds_of_restores() { # ROUNDS
    set -euo pipefail
    stop_unless_lab
    local turn domain before ours uuid path
    local -A place=()
    modprobe vgpu-sim gpus=t4,t4,t4,t4
    vgpuctl profile create quarter --type T4-1Q --policy spread >&2
    for domain in held0 held1 held2 held3; do
        lab-guest define "$domain"
        vgpuctl attach "$domain" --profile quarter --count 16 --mode guaranteed
    done >&2
    await 64
    for path in /sys/bus/mdev/devices/*; do
        uuid="${path##*/}"
        place["$uuid"]="$(readlink -f "$path/mdev_type")/create"
    done
    for ((turn = 0; turn < $1; turn++)); do
        unload
        before="${EPOCHREALTIME/./}"
        modprobe vgpu-sim gpus=t4,t4,t4,t4
        await 64
        ours="$(passed "$before")"
        systemctl stop vgpud
        unload
        before="${EPOCHREALTIME/./}"
        modprobe vgpu-sim gpus=t4,t4,t4,t4
        for uuid in "${!place[@]}"; do echo "$uuid" >"${place[$uuid]}"; done
        await 64
        echo "$ours $(passed "$before")"
        systemctl start vgpud
    done
    { for domain in held0 held1 held2 held3; do vgpuctl detach "$domain" && lab-guest remove "$domain"; done; } >&2
    await 0
    vgpuctl profile delete quarter >&2
    rmmod vgpu-sim
}

# bare_of DEVICE XML: the writes that make and remove what a prepare made, as two commands for "eval".
# shellcheck disable=SC2016 # expanded by eval
bare_of() {
    local type
    case "$1" in
        *-*-*-*-*)
            type="$(readlink -f "/sys/bus/mdev/devices/$1/mdev_type")"
            printf 'make="echo %s >%s/create" undo="echo 1 >/sys/bus/mdev/devices/%s/remove"' "$1" "$type" "$1"
            ;;
        *)
            type="/sys/bus/pci/devices/$1/nvidia/current_vgpu_type"
            # A VF that is bound once and stays so has no write at all.
            [[ -e "$type" ]] || { printf 'make=: undo=:' && return; }
            printf 'make="echo %s >%s" undo="echo 0 >%s"' "$(<"$type")" "$type" "$type"
            ;;
    esac
}

# The hook's prepare for a domain with one slice, and the bare write: "BACKEND OURS BARE" a line a round. Four presets
# that are four backends: mdevs on a PF, mdevs on VFs, vGPU types in VFs, and VFs with shares of their own.
rounds_of_prepares() { # ROUNDS
    set -euo pipefail
    stop_unless_lab
    local preset turn pf=0000:40:00.0 device before ours make undo
    for preset in t4 a40-mdev l40s-vfio arc-b; do
        modprobe vgpu-sim "gpus=$preset"
        udevadm settle
        case "$preset" in
            a40-mdev | l40s-vfio) echo numvfs=4 >"/sys/kernel/debug/vgpu_sim/$pf/control" ;;
            arc-b) vgpuctl vfs set "$pf" 4 >&2 ;;
        esac
        until vgpuctl profile create "on-$preset" --framebuffer 1GiB >&2 && lab-guest define one >&2 &&
            vgpuctl attach one --profile "on-$preset" >&2; do
            { vgpuctl profile delete "on-$preset" && lab-guest remove one; } >&2 || true
            ((SECONDS < 300)) || { echo "bench: no slice on $preset" >&2 && exit 1; }
            sleep 1
        done
        virsh -q dumpxml one --inactive >/tmp/one.xml
        device="$(vgpuctl allocations -o json | jq -r '.allocations[0].device[]')"
        for ((turn = 0; turn <= $1; turn++)); do
            before="${EPOCHREALTIME/./}"
            /usr/bin/vgpu-hook one prepare begin - </tmp/one.xml
            ours="$(passed "$before")"
            ((turn > 0)) || eval "$(bare_of "$device")"
            /usr/bin/vgpu-hook one release end - </tmp/one.xml
            before="${EPOCHREALTIME/./}"
            eval "$make"
            ((turn == 0)) || echo "$preset $ours $(passed "$before")"
            eval "$undo"
        done
        { vgpuctl detach one && vgpuctl profile delete "on-$preset" && lab-guest remove one; } >&2
        [[ "$preset" != arc-b ]] || { vgpuctl vfs set "$pf" 0 && vgpuctl vfs forget --all; } >&2
        rmmod vgpu-sim
    done
}

# in_lab FUNCTION ROUNDS: runs one of the above in the lab.
in_lab() {
    local helpers
    helpers="$(declare -f stop_unless_lab passed await unload bare_of "$1")"
    scripts/lab run bash -c "$helpers; $1 $2" 2>"$work/gpus.log" </dev/null ||
        { cat "$work/gpus.log" >&2 && die "$1 failed in the lab"; }
}

# median_of FILE COLUMN [FIRST_WORD]
median_of() {
    awk -v n="$2" -v word="${3:-}" 'word == "" || $1 == word { print $n }' "$1" | sort -n |
        awk '{ a[NR] = $1 } END { print (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}

measure_gpus() {
    local preset
    headline "64 guaranteed slices over four simulated GPUs, $gpu_rounds rounds"
    in_lab rounds_of_restores "$gpu_rounds" >"$work/restores"
    row "(h) 64 slices when their driver comes, in the lab" "$(median_of "$work/restores" 1)" \
        "$(median_of "$work/restores" 2)" ms 1.5
    headline "the hook's prepare by backend, $lab_rounds rounds"
    in_lab rounds_of_prepares "$lab_rounds" >"$work/prepares"
    for preset in t4 a40-mdev l40s-vfio arc-b; do
        above "(i) prepare on $preset, above its bare write" "$(median_of "$work/prepares" 2 "$preset")" \
            "$(median_of "$work/prepares" 3 "$preset")" 20
    done
}

# above WHAT OURS BARE AIM: what ours takes above the bare write, against an aim in ms.
above() { row "$1" "$(awk "BEGIN { print $2 - $3 }")" "$4" ms 1; }
