#!/bin/bash
# lab cut: a power cut. QEMU is killed, then the lab boots from the disk as it was left: what the
# guest had not yet flushed is gone.
. "$LAB_DIR/lib/all.sh"

lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
lab_kill
lab_cold_boot
