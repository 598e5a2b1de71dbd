#!/bin/bash
# lab save NAME: keeps memory and disk as a snapshot for "reset NAME"; replaces one of that name.
. "$LAB_DIR/lib/all.sh"

name="${1:?usage: lab save NAME}"
[[ "$name" =~ ^[a-z][a-z0-9_-]{0,30}$ ]] || die "a snapshot's name: lower case letters, digits, _ and -"
[[ "$name" != ready ]] || die "\"ready\" is the built state and is not replaced"
lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
lab_open_ssh || die "the lab does not answer"
lab_unplug_share
# No connection of ours is part of what is saved.
lab_close_ssh
if lab_has_snapshot "$name"; then
    lab_qmp job snapshot-delete "{\"job-id\": \"delete\", \"tag\": \"$name\", \"devices\": [\"disk\"]}"
fi
saved=0
lab_qmp job snapshot-save "{\"job-id\": \"save\", \"tag\": \"$name\", \"vmstate\": \"disk\", \"devices\": [\"disk\"]}" || saved=$?
lab_settle
((saved == 0)) || die "nothing was saved"
