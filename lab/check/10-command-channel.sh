# shellcheck shell=bash
# "run" is a transparent door.

check_run_passes_the_exit_code() {
    local code=0
    lab run sh -c 'exit 37' || code=$?
    equal "$code" 37 "exit code"
    lab run true
}

check_run_passes_arguments_as_given() {
    local got
    got="$(lab run printf '[%s]' 'two  words' "it's" '$HOME' '*' '' $'line\nline' 'a;b|c&d' '"')"
    equal "$got" $'[two  words][it\'s][$HOME][*][][line\nline][a;b|c&d]["]' "arguments"
}

check_run_passes_binary_input_and_output() {
    local sent got
    sent="$(head -c 300000 /usr/bin/env | sha256sum)"
    got="$(head -c 300000 /usr/bin/env | lab run cat | sha256sum)"
    equal "$got" "$sent" "what came back"
}

check_run_keeps_output_and_errors_apart() {
    local errors
    errors="$(mktemp)"
    equal "$(lab run sh -c 'echo out; echo err >&2' 2>"$errors")" out "standard output"
    equal "$(<"$errors")" err "standard error"
    rm "$errors"
}

check_run_returns_while_a_background_process_lives() {
    timeout 10 "$LAB_CALLER" run sh -c 'sleep 60 >/dev/null 2>&1 </dev/null &'
}

check_run_fails_with_a_hint_where_no_lab_is_up() {
    local message code=0
    message="$(VGPUD_LAB_NAME=never-started lab run true 2>&1)" || code=$?
    equal "$code" 1 "exit code"
    [[ "$message" == *"is down"*" up" ]] || fail "no hint in: $message"
}

check_put_keeps_content_and_mode() {
    local dir
    dir="$(mktemp -d)"
    printf '#!/bin/sh\necho put-works\n' >"$dir/tool"
    chmod 750 "$dir/tool"
    lab put "$dir/tool" /tmp/put-here
    rm -r "$dir"
    equal "$(lab run /tmp/put-here/tool)" put-works "output of the tool"
    equal "$(lab run stat -c '%a %U' /tmp/put-here/tool)" "750 root" "mode and owner"
}

check_share_shows_host_files_and_cannot_be_written() {
    local share
    share="$(lab status | sed -n 's/^share *//p')"
    date +%N >"$share/probe"
    equal "$(lab run cat /mnt/host/probe)" "$(<"$share/probe")" "file in the share"
    date +%N-and-longer >"$share/probe"
    equal "$(lab run cat /mnt/host/probe)" "$(<"$share/probe")" "the file after a change"
    ! lab run touch /mnt/host/from-the-lab 2>/dev/null || fail "the share can be written"
}
