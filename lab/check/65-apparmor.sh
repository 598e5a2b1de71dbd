# shellcheck shell=bash
# The lab can be as confined as a stock Debian host.

check_apparmor_can_be_switched_on_and_guests_still_start() {
    lab reset
    in_lab <<'EOF'
sed -i 's/^security_driver.*/security_driver = "apparmor"/' /etc/libvirt/qemu.conf
sync
EOF
    VGPUD_LAB_APPEND=apparmor=1 lab cut
    in_lab <<'EOF'
equal "$(cat /proc/$(pidof libvirtd)/attr/current)" "libvirtd (enforce)" "confinement of libvirtd"
lab-guest define confined
virsh -q start confined
lab-guest pci confined >/dev/null
grep '^libvirt-.* (enforce)$' /proc/$(cat /run/libvirt/qemu/confined.pid)/attr/current >/dev/null
EOF
    lab reset
}
