# shellcheck shell=bash
# The lab can be as confined as a stock Debian host.

check_confined_lab_enforces_and_guests_still_start() {
    lab reset
    lab confine
    in_lab <<'EOF'
equal "$(cat /proc/$(pidof libvirtd)/attr/current)" "libvirtd (enforce)" "confinement of libvirtd"
lab-guest define confined
virsh -q start confined
lab-guest pci confined >/dev/null
pid="$(cat /run/libvirt/qemu/confined.pid)"
grep '^libvirt-.* (enforce)$' "/proc/$pid/attr/current" >/dev/null
equal "$(ps -o user= -p "$pid" | cut -c1-7)" libvirt "the user of QEMU"
equal "$(dmesg | grep -F 'apparmor="DENIED"' | grep -c vfio || true)" 0 "denials that have to do with VFIO"
EOF
    lab reset
}
