# shellcheck shell=bash
# What the checks of vgpu-sim have in common, in the lab.

# with_gpus PRESET... [VAR=VALUE...]: runs the script on standard input in a lab that has exactly these GPUs, with
# its helpers; afterwards the module must go and the kernel must have complained of nothing.
with_gpus() {
    lab run dmesg --clear
    lab sim "$@"
    { cat "$LAB_DIR/check/lib/sim-inside.sh" -; } | in_lab || {
        lab run dmesg | tail -n 20
        return 1
    }
    lab sim off
    in_lab <<'END'
equal "$(ls -d /sys/bus/pci/devices/0000:[4-5]* 2>/dev/null)" "" "functions left behind"
equal "$(dmesg --level=emerg,alert,crit,err,warn)" "" "what the kernel warned of"
END
}
