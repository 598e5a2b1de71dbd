# shellcheck shell=bash
# What the checks of vgpu-sim have in common, in the lab.

# with_gpus PRESET... [VAR=VALUE...]: runs the script on standard input in a lab that has exactly these GPUs, with
# its helpers; afterwards the module must go and the kernel must have complained of nothing.
with_gpus() {
    # Debian 12's kernel is too old for the module.
    [[ "${VGPUD_LAB_DEBIAN:-13}" != 12 ]] || return 0
    # Read first: every command to the lab would take it for its own input.
    local script
    script="$(cat "$LAB_DIR/check/lib/sim-inside.sh" -)"
    lab run dmesg --clear
    lab sim "$@"
    in_lab <<<"$script" || {
        lab run dmesg | tail -n 20
        return 1
    }
    lab sim off
    in_lab <<'END'
equal "$(ls -d /sys/bus/pci/devices/0000:[4-5]* 2>/dev/null)" "" "functions left behind"
# The core tells of every refused create and of a count of VFs over another; KVM of what guests' kernels try.
equal "$(dmesg --level=emerg,alert,crit,err,warn |
    grep -vE 'probe with driver nvidia-vgpu-vfio failed with error|VFs already enabled|kvm: kvm ' || true)" "" "what the kernel warned of"
END
}
