# shellcheck shell=bash
# What scripts/bench measures in the lab: virsh start with our hook making the mdev, against virsh start
# with the mdev made beforehand and no hook, and against the barest hook that makes it.

# Runs in the lab. Says "begin" before each thing that is measured and "end WHAT MS" after it, and waits for a
# line after each, so that whoever listens can look at the lab's processor time. Guests start paused: what
# they would do with the processor is not what is measured.
# shellcheck disable=SC2317 # its functions are called by names put together
rounds_of_starts() { # ROUNDS
    set -euo pipefail
    [[ -f /etc/vgpud-lab ]] || { echo "bench: this is not a lab" >&2 && exit 1; }
    local uuid turn place kinds=(hook bare none)
    local hook=/etc/libvirt/hooks/qemu.d/vgpud parent=/sys/class/mdev_bus/mtty
    uuid="$(cat /proc/sys/kernel/random/uuid)"

    prepare_starts() {
        mkdir -p /root/hooks
        vgpuctl profile create bench --type mtty-1
        lab-guest define with
        vgpuctl attach with --profile bench
        printf "<hostdev mode='subsystem' type='mdev' managed='no' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>" \
            "$uuid" >/tmp/bench.xml
        lab-guest define without --hostdev-xml /tmp/bench.xml
        cat >/root/hooks/bare <<END
#!/bin/sh
case "\$2" in
prepare) echo $uuid >$parent/mdev_supported_types/mtty-1/create ;;
release) echo 1 >/sys/bus/mdev/devices/$uuid/remove ;;
esac
END
        chmod 755 /root/hooks/bare
        mv "$hook" /root/hooks/hook
    }
    # In ms; the pieces are taken by hand because the lab has no interpreter but the shell.
    measured() { # WHAT COMMAND...
        local what="$1" before go
        shift
        # What came before, also in libvirt's and udev's own threads, is over.
        udevadm settle
        sleep 1
        echo begin && read -r go
        before="${EPOCHREALTIME/./}"
        "$@" >&2 </dev/null
        echo "end $what $(((${EPOCHREALTIME/./} - before) / 1000))" && read -r go
    }
    # libvirt looks for its scripts at each call: with none there, it runs none.
    start_hook() {
        mv /root/hooks/hook "$hook"
        measured hook virsh -q start --paused with
        [[ "$(ls /sys/bus/mdev/devices)" != "" ]] || { echo "bench: the hook made no mdev" >&2 && exit 1; }
        virsh -q destroy with >&2 </dev/null
        mv "$hook" /root/hooks/hook
    }
    start_bare() {
        cp /root/hooks/bare "$hook"
        measured bare virsh -q start --paused without
        virsh -q destroy without >&2 </dev/null
        rm "$hook"
    }
    start_none() {
        echo "$uuid" >"$parent/mdev_supported_types/mtty-1/create"
        measured none virsh -q start --paused without
        virsh -q destroy without >&2 </dev/null
        echo 1 >"/sys/bus/mdev/devices/$uuid/remove"
    }
    call_hook() {
        local operation
        for operation in prepare start started; do
            /usr/bin/vgpu-hook with "$operation" begin - </tmp/with.xml
        done
    }

    prepare_starts >&2 </dev/null
    virsh -q dumpxml with --inactive >/tmp/with.xml </dev/null
    # The first round fills caches. Who comes first changes, so that none always follows the same other.
    for ((turn = 0; turn <= $1; turn++)); do
        echo "round $turn"
        for ((place = 0; place < ${#kinds[@]}; place++)); do
            "start_${kinds[(turn + place) % ${#kinds[@]}]}"
        done
        measured alone call_hook
        /usr/bin/vgpu-hook with release end - </tmp/with.xml
    done
    mv /root/hooks/hook "$hook"
    {
        vgpuctl detach with
        vgpuctl profile delete bench
        lab-guest remove with
        lab-guest remove without
    } >&2 </dev/null
}

# listen_to_lab TIMES: answers rounds_of_starts; writes "WHAT MS PROCESSOR_MS" a line, without round 0. The
# processor time is that of the whole lab, its kernel and libvirt included: what else the machine does
# slows the clock down and hardly this.
listen_to_lab() {
    local lab_pid from_lab to_lab child word what ms before round=0
    lab_pid="$(scripts/lab status | sed -n 's/^state .*pid \([0-9]*\).*/\1/p')"
    coproc LAB { scripts/lab run bash -c "$(declare -f rounds_of_starts); rounds_of_starts $lab_rounds" 2>"$work/lab.log"; }
    # shellcheck disable=SC2153 # coproc makes LAB_PID
    from_lab="${LAB[0]}" to_lab="${LAB[1]}" child="$LAB_PID"
    while read -r word what ms; do
        case "$word" in
            round) round="$what" ;;
            begin) before="$(processor_ms "$lab_pid")" && echo go >&"$to_lab" ;;
            end)
                ((round == 0)) || printf '%s %s %s\n' "$what" "$ms" "$(($(processor_ms "$lab_pid") - before))" >>"$1"
                echo go >&"$to_lab"
                ;;
        esac
    done <&"$from_lab"
    wait "$child"
}

# of_starts TIMES WHAT COLUMN median|min
of_starts() {
    awk -v what="$2" -v n="$3" '$1 == what { print $n }' "$1" | sort -n | awk -v what="$4" '{ a[NR] = $1 }
        END { print what == "min" ? a[1] : (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}

# compare_starts WHAT OURS THEIRS: median, minimum, processor time.
compare_starts() {
    local times="$work/starts"
    row "$1" "$(of_starts "$times" "$2" 2 median)" "$(of_starts "$times" "$3" 2 median)" ms 1.03
    row "    minimum" "$(of_starts "$times" "$2" 2 min)" "$(of_starts "$times" "$3" 2 min)" ms 1.03
    row "    processor time of the lab" "$(of_starts "$times" "$2" 3 median)" \
        "$(of_starts "$times" "$3" 3 median)" ms 1.03
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
    local private used
    lab_used=yes
    scripts/lab down
    quietly "starting the lab" scripts/lab up
    quietly "installing vgpud in it" scripts/install-lab --profile release --no-save
    listen_to_lab "$work/starts" || { cat "$work/lab.log" >&2 && die "the starts in the lab failed"; }
    compare_starts "(b) virsh start with the hook, against without" hook none
    compare_starts "(b) with the hook, against a bare one" hook bare
    compare_starts "    a bare hook, against without" bare none
    row "    the hook's three calls by themselves" "$(of_starts "$work/starts" alone 2 median)" \
        "$(of_starts "$work/starts" none 2 median)" ms 0.03
    headline "the idle service in the lab, connected to qemu:///system: $idle s"
    read -r private used <<<"$(scripts/lab run bash -c "$(declare -f idle_in_lab); idle_in_lab $idle")"
    row "(d) private memory, in the lab, qemu:///system" "$(awk -v k="$private" 'BEGIN { print k / 1024 }')" 12 MiB 1
    printf '%-52s %s ms\n' "    processor time in $idle s" "$used" >>"$table"
    measure_gpus
    scripts/lab down
    lab_used=no
}
