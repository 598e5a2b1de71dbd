#!/bin/bash
# lab reset [SNAPSHOT]: memory and disk go back to a snapshot ("ready" unless named).
. "$LAB_DIR/lib/all.sh"

snapshot="${1:-ready}"
lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
lab_has_snapshot "$snapshot" || die "the lab \"$LAB_NAME\" has no snapshot \"$snapshot\""
lab_kill
lab_start_from "$snapshot"
