# shellcheck shell=bash
# KVM where it really works, TCG where not. /dev/kvm alone proves nothing: some machines have one
# that cannot run a stock kernel, others cannot give the lab guests of its own.

LAB_PROBE_SECONDS=10

# lab_accel BASE: prints kvm or tcg. BASE holds vmlinux and initrd; the answer is kept until the
# machine boots again.
lab_accel() {
    local base="$1" memo answer
    case "${VGPUD_LAB_ACCEL:-auto}" in
        kvm | tcg) printf '%s' "$VGPUD_LAB_ACCEL" && return ;;
        auto) ;;
        *) die "VGPUD_LAB_ACCEL: kvm, tcg or auto" ;;
    esac
    memo="$LAB_CACHE/accel-$(tr -d - </proc/sys/kernel/random/boot_id)-$(id -u)"
    if [[ ! -s "$memo" ]]; then
        rm -f "$LAB_CACHE"/accel-*
        answer=tcg
        if kvm_runs_a_kernel "$base"; then answer=kvm; fi
        note "accelerator: $answer"
        printf '%s' "$answer" >"$memo"
    fi
    cat "$memo"
}

# Boots the lab's kernel on the lab's hardware as far as its initrd, which also looks whether it
# could have guests itself.
kvm_runs_a_kernel() { # BASE
    [[ -r /dev/kvm && -w /dev/kvm ]] || return 1
    local -a hardware
    mapfile -t hardware < <(lab_hardware kvm)
    timeout --signal=KILL "$LAB_PROBE_SECONDS" qemu-system-x86_64 "${hardware[@]}" -no-reboot \
        -blockdev driver=null-co,node-name=disk,size=1M,read-zeroes=on -netdev user,id=net,restrict=on \
        -kernel "$1/vmlinux" -initrd "$1/initrd" -append "console=ttyS0 lab.probe" \
        -serial stdio 2>/dev/null </dev/null 9>&- | grep 'VGPUD-LAB PROBE ok' >/dev/null
}
