# shellcheck shell=bash
# Who has a group's node open keeps everybody else out, and knows it.

check_open_group_keeps_a_guest_out_and_lets_remove_through() {
    in_lab <<'EOF'
uuid=8a1c0e3e-0000-4000-8000-000000000004
echo $uuid >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create
group=$(basename "$(readlink /sys/bus/mdev/devices/$uuid/iommu_group)")
echo "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='$uuid'/></source></hostdev>" >/tmp/guard.xml
lab-guest define guard --hostdev-xml /tmp/guard.xml
exec 4<>/dev/vfio/$group
equal "$( { : 5<>/dev/vfio/$group; } 2>&1 | sed 's/.*: //')" "Device or resource busy" "second open"
error="$(virsh -q start guard 2>&1)" && { echo "the guest started"; exit 1; }
[[ "$error" == *"Device or resource busy"* ]] || { echo "$error"; exit 1; }
timeout 10 sh -c "echo 1 >/sys/bus/mdev/devices/$uuid/remove"
test ! -e /sys/bus/mdev/devices/$uuid
exec 4>&-
lab-guest remove guard
EOF
}

check_remove_of_a_held_mdev_waits_for_the_guest() {
    in_lab <<'EOF'
uuid=8a1c0e3e-0000-4000-8000-000000000005
type=/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1
free=$(cat $type/available_instances)
echo $uuid >$type/create
group=$(basename "$(readlink /sys/bus/mdev/devices/$uuid/iommu_group)")
echo "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='$uuid'/></source></hostdev>" >/tmp/held.xml
lab-guest define held --hostdev-xml /tmp/held.xml
virsh -q start held
equal "$( { : 5<>/dev/vfio/$group; } 2>&1 | sed 's/.*: //')" "Device or resource busy" "open beside a guest"
echo 1 >/sys/bus/mdev/devices/$uuid/remove &
writer=$!
sleep 3
kill -0 $writer
test ! -e /sys/bus/mdev/devices/$uuid
equal "$(cat $type/available_instances)" $((free - 1)) "left during the wait"
virsh -q destroy held
wait $writer
equal "$(cat $type/available_instances)" "$free" "left afterwards"
lab-guest remove held
EOF
}
