#!/bin/bash
# lab down: switches the lab off; its saved snapshots stay.
. "$LAB_DIR/lib/all.sh"

lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_kill
