# shellcheck shell=bash
# Everything a command about a running lab needs.
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/hardware.sh"
. "$LAB_DIR/lib/key.sh"
. "$LAB_DIR/lib/accel.sh"
. "$LAB_DIR/lib/ssh.sh"
. "$LAB_DIR/lib/machine.sh"
. "$LAB_DIR/lib/start.sh"
