# shellcheck shell=bash
# One running lab: its QEMU, its disk, its host share.
# Needs common.sh, hardware.sh and ssh.sh.

# A cold boot takes 15 s, and ten times that while others compile.
LAB_BOOT_SECONDS=300

lab_pid() {
    local pid
    pid="$(cat "$LAB_RUN/qemu.pid" 2>/dev/null)" && [[ -r "/proc/$pid/cmdline" ]] || return 1
    # A pid may have been given to somebody else meanwhile.
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -xF "$LAB_RUN/qemu.pid" >/dev/null || return 1
    printf '%s' "$pid"
}

lab_is_up() { lab_pid >/dev/null; }

lab_require_up() {
    lab_is_up || die "the lab \"$LAB_NAME\" is down; bring it up with: $LAB_CALLER up"
}

lab_qmp() {
    /usr/bin/python3 -I "$LAB_DIR/lib/qmp.py" "$LAB_RUN/qmp.sock" "$@"
}

free_port() {
    /usr/bin/python3 -I -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# What a cold boot tells the kernel. Denials are told through audit, which audit=0 switches off for good.
lab_cmdline() {
    local words="$LAB_CMDLINE"
    if [[ -n "${VGPUD_LAB_APPARMOR:-}" ]]; then
        words="${words/apparmor=0/apparmor=1}"
        words="${words/ audit=0/}"
    fi
    printf '%s %s' "$words" "${VGPUD_LAB_APPEND:-}"
}

# lab_launch ACCEL [QEMU-ARGUMENT...]: starts QEMU on $LAB_INSTANCE and waits for its QMP.
lab_launch() {
    local accel="$1" port
    local -a hardware life=()
    shift
    mapfile -t hardware < <(lab_hardware "$accel")
    [[ -z "${VGPUD_LAB_TTL:-}" ]] || life=(timeout --signal=TERM "$VGPUD_LAB_TTL")
    for _ in 1 2 3; do
        port="$(free_port)"
        rm -f "$LAB_RUN"/{qmp.sock,qemu.pid}
        setsid "${life[@]}" qemu-system-x86_64 -name "vgpud-lab-$LAB_NAME" "${hardware[@]}" \
            -blockdev "driver=qcow2,node-name=disk,file.driver=file,file.filename=$LAB_INSTANCE/disk.qcow2" \
            -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" \
            -kernel "$LAB_INSTANCE/vmlinux" -initrd "$LAB_INSTANCE/initrd" -append "$(lab_cmdline)" \
            -serial "file:$LAB_RUN/console.log" \
            -qmp "unix:$LAB_RUN/qmp.sock,server=on,wait=off" -pidfile "$LAB_RUN/qemu.pid" \
            -fsdev "local,id=host,path=$LAB_SHARE,security_model=none,readonly=on,multidevs=remap" \
            "$@" </dev/null >"$LAB_RUN/qemu.log" 2>&1 9>&- &
        if lab_wait_qmp $!; then
            lab_write_ssh_config "$port"
            return
        fi
        # Somebody was quicker with the port: take another.
        grep -q 'Could not set up host forwarding' "$LAB_RUN/qemu.log" || break
    done
    grep -v 'has no peer' "$LAB_RUN/qemu.log" >&2
    die "QEMU did not start"
}

lab_wait_qmp() { # PID
    local deadline=$((SECONDS + 60))
    until [[ -S "$LAB_RUN/qmp.sock" ]] && lab_qmp ready 2>/dev/null; do
        kill -0 "$1" 2>/dev/null || return 1
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# lab_settle: after a start by any road: the connection, the clock, the share.
lab_settle() {
    lab_wait_ssh "$LAB_BOOT_SECONDS" || {
        tail -n 20 "$LAB_RUN/console.log" >&2
        die "the lab does not answer; its console is in $LAB_RUN/console.log"
    }
    lab_plug_share
    lab_ssh sh -c 'date --quiet --set="@$1" 2>/dev/null || date -s "@$1" >/dev/null
        mountpoint -q /mnt/host ||
        timeout 20 sh -c "until mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro host /mnt/host 2>/dev/null
            do sleep 0.1; done"' - "$(date +%s.%N)" ||
        die "the host share could not be mounted"
}

lab_has_device() { # ID
    lab_qmp call qom-list '{"path": "/machine/peripheral"}' | grep -F "\"name\": \"$1\"" >/dev/null
}

# 9p would forbid a snapshot, so it is plugged in afterwards.
lab_plug_share() {
    lab_has_device share && return
    mkdir -p "$LAB_SHARE"
    lab_qmp call device_add '{"driver": "virtio-9p-pci", "id": "share", "fsdev": "host", "mount_tag": "host", "bus": "plug1"}' >/dev/null
}

lab_unplug_share() {
    lab_has_device share || return 0
    lab_ssh umount /mnt/host
    lab_qmp unplug share
}

# lab_kill: QEMU is gone when this returns, without a word to the guest.
lab_kill() {
    local pid
    lab_close_ssh
    pid="$(lab_pid)" || return 0
    kill -KILL "$pid" 2>/dev/null || true
    while lab_is_up; do sleep 0.02; done
    rm -f "$LAB_RUN"/{qmp.sock,qemu.pid}
}
