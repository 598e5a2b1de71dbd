# shellcheck shell=bash
# The lab looks like a KVM host.

check_marker_says_that_this_is_a_lab() {
    [[ "$(lab run cat /etc/vgpud-lab)" =~ ^[0-9a-f]{16}$ ]] || fail "no marker"
}

check_no_unit_failed_and_kvm_is_there() {
    in_lab <<'EOF'
equal "$(systemctl is-system-running)" running "state of systemd"
test -c /dev/kvm
virsh -q domcapabilities --virttype kvm --machine q35 >/dev/null
EOF
}

check_clock_is_right_after_a_start() {
    local difference
    difference=$(($(lab run date +%s) - $(date +%s)))
    ((difference >= -3 && difference <= 3)) || fail "the clock is $difference s off"
}

check_mdev_parents_offer_all_their_types() {
    in_lab <<'EOF'
types() { (cd "/sys/class/mdev_bus/$1/mdev_supported_types" && echo *); }
equal "$(types mtty)" "mtty-1 mtty-2" mtty
equal "$(types mdpy)" "mdpy-hd mdpy-vga mdpy-xga" mdpy
equal "$(types mbochs)" "mbochs-large mbochs-medium mbochs-small" mbochs
for type in /sys/class/mdev_bus/*/mdev_supported_types/*; do
    equal "$(cat "$type/device_api")" vfio-pci "$type"
done
EOF
}

check_mdev_is_created_and_removed_by_uuid() {
    in_lab <<'EOF'
uuid=8a1c0e3e-0000-4000-8000-000000000001
type=/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1
free="$(cat $type/available_instances)"
equal "$(errno_of $type/create $uuid)" ok "create"
equal "$(basename "$(readlink /sys/bus/mdev/devices/$uuid/mdev_type)")" mtty-1 "type"
equal "$(cat $type/available_instances)" $((free - 1)) "left after create"
equal "$(errno_of $type/create $uuid)" "File exists" "second create"
equal "$(errno_of /sys/bus/mdev/devices/$uuid/remove 1)" ok "remove"
test ! -e /sys/bus/mdev/devices/$uuid
equal "$(cat $type/available_instances)" "$free" "left after remove"
EOF
}

check_tools_of_the_tests_are_there() {
    in_lab <<'EOF'
for tool in mdevctl umockdev-record umockdev-run virt-xml-validate sqlite3 jq lspci busybox; do
    command -v $tool >/dev/null || { echo "no $tool"; exit 1; }
done
echo "<domain type='kvm'><name>x</name><memory>1</memory><os><type>hvm</type></os></domain>" >/tmp/x.xml
virt-xml-validate /tmp/x.xml domain
umockdev-record /sys/devices/virtual/mtty/mtty | grep >/dev/null '^P: /devices/virtual/mtty/mtty'
EOF
}
