# shellcheck shell=bash
# Nested guests, seen from the firmware, from their Linux and from the host.

# The device ids: mtty 4348:3253, a VF of igb 8086:10ca.

check_guest_shows_an_mdev_given_at_its_start() {
    in_lab <<'EOF'
uuid=8a1c0e3e-0000-4000-8000-000000000002
echo $uuid >/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create
cat >/tmp/hostdev.xml <<XML
<hostdev mode='subsystem' type='mdev' model='vfio-pci'>
  <source><address uuid='$uuid'/></source><alias name='ua-lab-check'/>
</hostdev>
XML
lab-guest define one --hostdev-xml /tmp/hostdev.xml
virsh -q start one
lab-guest wait-pci one 4348:3253 1
lab-guest bios-pci one | grep -x >/dev/null '0000:01:00.0 4348:3253'
lab-guest cmdline one | grep >/dev/null "$uuid"
read -r pid domain < <(lab-guest holders $uuid)
equal "$domain" one "holder"
equal "$pid" "$(cat /run/libvirt/qemu/one.pid)" "pid of the holder"
virsh -q destroy one
equal "$(lab-guest holders $uuid)" "" "holders afterwards"
lab-guest remove one
echo 1 >/sys/bus/mdev/devices/$uuid/remove
EOF
}

check_guest_sees_an_mdev_come_and_go() {
    in_lab <<'EOF'
uuid=8a1c0e3e-0000-4000-8000-000000000003
echo $uuid >/sys/class/mdev_bus/mdpy/mdev_supported_types/mdpy-vga/create
echo "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='$uuid'/></source></hostdev>" >/tmp/plug.xml
lab-guest define plug
virsh -q start plug
lab-guest pci plug >/dev/null
virsh -q attach-device plug /tmp/plug.xml --live
lab-guest wait-pci plug 1b36:000f 1 --timeout 30
virsh -q detach-device plug /tmp/plug.xml --live
lab-guest wait-pci plug 1b36:000f 0 --timeout 30
lab-guest remove plug
echo 1 >/sys/bus/mdev/devices/$uuid/remove
EOF
}

check_guest_shows_a_vf() {
    in_lab <<'EOF'
pf=/sys/bus/pci/devices/0000:02:00.0
echo 0 >$pf/sriov_drivers_autoprobe
echo 2 >$pf/sriov_numvfs
for link in $pf/virtfn*; do
    echo vfio-pci >$link/driver_override
    basename "$(readlink $link)" >/sys/bus/pci/drivers_probe
done
vf=$(basename "$(readlink $pf/virtfn1)")
IFS=:. read -r domain bus slot function <<<"$vf"
cat >/tmp/vf.xml <<XML
<hostdev mode='subsystem' type='pci' managed='no'>
  <source><address domain='0x$domain' bus='0x$bus' slot='0x$slot' function='0x$function'/></source>
</hostdev>
XML
lab-guest define two --hostdev-xml /tmp/vf.xml
virsh -q start two
lab-guest wait-pci two 8086:10ca 1
lab-guest bios-pci two | grep >/dev/null '8086:10ca'
equal "$(lab-guest holders $vf | cut -d' ' -f2)" two "holder"
lab-guest remove two
echo 0 >$pf/sriov_numvfs
EOF
}

check_guest_reboots_from_inside_and_obeys_its_power_button() {
    in_lab <<'EOF'
lab-guest define again
virsh -q start again
lab-guest pci again >/dev/null
lab-guest tell again reboot
timeout 60 sh -c 'until [ "$(lab-guest boots again)" = 2 ]; do sleep 0.3; done'
lab-guest pci again >/dev/null
virsh -q shutdown again
timeout 30 sh -c 'until virsh domstate again | grep -q "shut off"; do sleep 0.3; done'
lab-guest remove again
EOF
}
