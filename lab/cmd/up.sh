#!/bin/bash
# lab up [SNAPSHOT]: builds if needed and starts from a snapshot ("ready" unless named).
. "$LAB_DIR/lib/all.sh"

snapshot="${1:-ready}"
lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
if lab_is_up; then
    note "the lab \"$LAB_NAME\" is up already"
    exit 0
fi
bash "$LAB_DIR/cmd/build.sh" 9>&-
began=$SECONDS
lab_prepare_instance
lab_start_from "$snapshot"
note "the lab \"$LAB_NAME\" is up after $((SECONDS - began)) s"
