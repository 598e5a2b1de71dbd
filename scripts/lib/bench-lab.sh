# shellcheck shell=bash
# What scripts/bench measures in the lab: virsh start with our hook making the mdev, against virsh start
# with the mdev made beforehand and no hook.

# Runs in the lab: prints "WITH WITHOUT HOOK" in ms, a line for each round; HOOK is what the hook's three
# calls of a start take by themselves. Guests start paused: what they would
# do with the processor is not what is measured.
rounds_of_starts() { # ROUNDS
    set -euo pipefail
    [[ -f /etc/vgpud-lab ]] || { echo "bench: this is not a lab" >&2 && exit 1; }
    local uuid hook=/etc/libvirt/hooks/qemu.d/vgpud turn with without alone
    local parent=/sys/class/mdev_bus/mtty
    uuid="$(cat /proc/sys/kernel/random/uuid)"

    vgpuctl profile create bench --type mtty-1 >&2
    lab-guest define with >&2
    vgpuctl attach with --profile bench >&2
    printf "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>" \
        "$uuid" >/tmp/bench.xml
    lab-guest define without --hostdev-xml /tmp/bench.xml >&2

    # In ms; the pieces are taken by hand because the lab has no interpreter but the shell.
    started() { # DOMAIN
        local before="${EPOCHREALTIME/./}"
        virsh -q start --paused "$1" >&2
        printf '%s' "$(((${EPOCHREALTIME/./} - before) / 1000))"
    }
    start_with() {
        with="$(started with)"
        [[ "$(ls /sys/bus/mdev/devices)" != "" ]] || { echo "bench: the hook made no mdev" >&2 && exit 1; }
        virsh -q destroy with >&2
    }
    start_without() {
        # libvirt looks for its scripts at each call: with none there, it runs none.
        mv "$hook" /root/hook-of-vgpud
        echo "$uuid" >"$parent/mdev_supported_types/mtty-1/create"
        without="$(started without)"
        virsh -q destroy without >&2
        echo 1 >"/sys/bus/mdev/devices/$uuid/remove"
        mv /root/hook-of-vgpud "$hook"
    }
    call_hook() {
        local operation before
        virsh -q dumpxml with --inactive >/tmp/with.xml
        before="${EPOCHREALTIME/./}"
        for operation in prepare start started; do "$hook" with "$operation" begin - </tmp/with.xml; done
        alone="$(((${EPOCHREALTIME/./} - before) / 1000))"
        "$hook" with release end - </tmp/with.xml
    }
    for ((turn = 0; turn <= $1; turn++)); do
        # Who comes first changes, so that neither always follows the other's stop.
        if ((turn % 2)); then start_with && start_without; else start_without && start_with; fi
        call_hook
        # The first round fills caches.
        ((turn == 0)) || printf '%s %s %s\n' "$with" "$without" "$alone"
    done
    vgpuctl detach with >&2
    vgpuctl profile delete bench >&2
    lab-guest remove with >&2
    lab-guest remove without >&2
}

# column NUMBER median|min, of lines on stdin
column() {
    awk -v n="$1" '{ print $n }' | sort -n | awk -v what="$2" '{ a[NR] = $1 }
        END { print what == "min" ? a[1] : (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}

idle_in_lab() { # SECONDS: "PRIVATE_KIB PROCESSOR_MS" of the service
    set -euo pipefail
    local pid before
    pid="$(systemctl show --property MainPID --value vgpud)"
    before="$(awk '{ print ($14 + $15) * 10 }' "/proc/$pid/stat")"
    sleep "$1"
    awk -v before="$before" 'FNR == NR { if (/^Private_(Clean|Dirty):/) sum += $2; next }
        { print sum, ($14 + $15) * 10 - before }' "/proc/$pid/smaps_rollup" "/proc/$pid/stat"
}

measure_start() {
    headline "virsh start in the lab, $lab_rounds rounds"
    local times private used which
    lab_used=yes
    scripts/lab down
    quietly "starting the lab" scripts/lab up
    quietly "installing vgpud in it" scripts/install-lab --profile release --no-save
    times="$(scripts/lab run bash -c "$(declare -f rounds_of_starts); rounds_of_starts $lab_rounds" 2>"$work/lab.log")" ||
        { cat "$work/lab.log" >&2 && die "the starts in the lab failed"; }
    for which in median min; do
        row "(b) virsh start with the hook, against without: $which" "$(column 1 "$which" <<<"$times")" \
            "$(column 2 "$which" <<<"$times")" ms 1.03
    done
    row "    the hook's part of it: its calls by themselves" "$(column 3 median <<<"$times")" \
        "$(column 2 median <<<"$times")" ms 0.03
    headline "the idle service in the lab, connected to qemu:///system: $idle s"
    read -r private used <<<"$(scripts/lab run bash -c "$(declare -f idle_in_lab); idle_in_lab $idle")"
    row "(d) private memory, in the lab, qemu:///system" "$(awk -v k="$private" 'BEGIN { print k / 1024 }')" 12 MiB 1
    printf '%-52s %s ms\n' "    processor time in $idle s" "$used" >>"$table"
    scripts/lab down
    lab_used=no
}
