# shellcheck shell=bash
# Going back, going on, and losing power. These disturb the lab, so they come last.

check_reset_brings_everything_back_within_ten_seconds() {
    local began=$SECONDS
    in_lab <<'EOF'
echo 8a1c0e3e-0000-4000-8000-000000000006 >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
touch /root/left-behind
sync
lab-guest define left-behind
EOF
    began=$SECONDS
    lab reset
    lab run true
    ((SECONDS - began < 10)) || fail "reset took $((SECONDS - began)) s"
    in_lab <<'EOF'
equal "$(ls /sys/bus/mdev/devices)" "" "mdevs"
test ! -e /root/left-behind
equal "$(virsh -q list --all)" "" "domains"
EOF
}

check_saved_snapshot_comes_back_with_its_mdevs() {
    in_lab <<'EOF'
echo 8a1c0e3e-0000-4000-8000-000000000007 >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
touch /root/kept
EOF
    lab save halfway
    equal "$(lab run mountpoint /mnt/host)" "/mnt/host is a mountpoint" "the share after save"
    lab reset
    lab run test ! -e /root/kept
    lab reset halfway
    lab run test -e /root/kept
    lab run test -e /sys/bus/mdev/devices/8a1c0e3e-0000-4000-8000-000000000007
    lab reset
}

check_cut_keeps_what_was_synced_and_loses_mdevs() {
    local before
    before="$(lab run cat /proc/sys/kernel/random/boot_id)"
    in_lab <<'EOF'
echo 8a1c0e3e-0000-4000-8000-000000000008 >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
echo durable >/root/synced
sync /root/synced /root
echo volatile >/root/never-synced
EOF
    lab cut
    [[ "$(lab run cat /proc/sys/kernel/random/boot_id)" != "$before" ]] || fail "it did not boot"
    in_lab <<'EOF'
equal "$(cat /root/synced)" durable "the synced file"
equal "$(cat /root/never-synced 2>/dev/null)" "" "the file that was not synced"
equal "$(ls /sys/bus/mdev/devices)" "" "mdevs"
test -e /etc/vgpud-lab
EOF
}

check_reboot_is_clean_and_keeps_files() {
    lab run touch /root/before-reboot
    lab reboot
    in_lab <<'EOF'
test -e /root/before-reboot
test -e /sys/class/mdev_bus/mtty
equal "$(systemctl is-system-running --wait)" running "state of systemd"
mountpoint -q /mnt/host
EOF
}

check_up_again_starts_from_ready() {
    lab down
    local code=0
    lab status >/dev/null || code=$?
    equal "$code" 3 "status of a lab that is down"
    lab up
    lab run test ! -e /root/before-reboot
}
