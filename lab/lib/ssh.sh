# shellcheck shell=bash
# Commands in the lab: ssh with a key, a configuration and a known host of its own, over one
# connection that stays open.

lab_write_ssh_config() { # PORT
    cat >"$LAB_RUN/ssh.conf" <<EOF
Host lab
    HostName 127.0.0.1
    Port $1
    User root
    HostKeyAlias vgpud-lab
    IdentityFile $LAB_INSTANCE/key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile $LAB_INSTANCE/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    LogLevel ERROR
    ConnectTimeout 30
    ServerAliveInterval 15
    ServerAliveCountMax 8
    ControlPath $LAB_RUN/ssh.sock
EOF
}

# The connection is opened here and not by the first command, whose output it would keep open.
lab_open_ssh() {
    [[ -S "$LAB_RUN/ssh.sock" ]] && ssh -F "$LAB_RUN/ssh.conf" -O check lab 2>/dev/null && return
    rm -f "$LAB_RUN/ssh.sock"
    ssh -F "$LAB_RUN/ssh.conf" -o ControlMaster=yes -fNT lab </dev/null >"$LAB_RUN/ssh.log" 2>&1 9>&-
}

lab_close_ssh() {
    [[ -S "$LAB_RUN/ssh.sock" ]] || return 0
    ssh -F "$LAB_RUN/ssh.conf" -O exit lab 2>/dev/null || true
    rm -f "$LAB_RUN/ssh.sock"
}

# lab_wait_ssh SECONDS: until a command runs, or QEMU is gone.
lab_wait_ssh() {
    local deadline=$((SECONDS + $1))
    until lab_open_ssh; do
        lab_is_up || return 1
        ((SECONDS < deadline)) || return 1
        sleep 0.3
    done
}

# lab_ssh COMMAND...: each argument arrives as it was given; streams and exit code pass through.
lab_ssh() {
    ssh -F "$LAB_RUN/ssh.conf" -T lab "${*@Q}"
}
