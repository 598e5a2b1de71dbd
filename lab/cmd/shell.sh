#!/bin/bash
# lab shell: a root shell in the lab.
. "$LAB_DIR/lib/all.sh"

lab_require_up
lab_open_ssh || die "the lab does not answer; its console is in $LAB_RUN/console.log"
exec ssh -F "$LAB_RUN/ssh.conf" -t lab
