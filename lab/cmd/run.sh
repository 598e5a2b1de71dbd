#!/bin/bash
# lab run COMMAND [ARGUMENT...]: runs it as root in the lab. Arguments, standard streams and exit
# code pass through unchanged.
. "$LAB_DIR/lib/all.sh"

(($# > 0)) || die "usage: lab run COMMAND [ARGUMENT...]"
lab_require_up
lab_open_ssh || die "the lab does not answer; its console is in $LAB_RUN/console.log"
lab_ssh "$@"
