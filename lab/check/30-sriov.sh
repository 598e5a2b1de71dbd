# shellcheck shell=bash
# The igb functions are real SR-IOV devices behind a real IOMMU.

check_two_pfs_with_seven_vfs_each() {
    in_lab <<'EOF'
for pf in 0000:01:00.0 0000:02:00.0; do
    equal "$(cat /sys/bus/pci/devices/$pf/sriov_totalvfs)" 7 "VFs of $pf"
    equal "$(basename "$(readlink /sys/bus/pci/devices/$pf/driver)")" igb "driver of $pf"
done
EOF
}

check_number_of_vfs_obeys_the_rules_of_the_kernel() {
    in_lab <<'EOF'
cd /sys/bus/pci/devices/0000:01:00.0
echo 0 >sriov_drivers_autoprobe
equal "$(errno_of sriov_numvfs 99)" "Numerical result out of range" "99 VFs"
equal "$(errno_of sriov_numvfs 4)" ok "0 to 4"
equal "$(ls -d virtfn* | wc -l)" 4 "links"
equal "$(errno_of sriov_numvfs 2)" "Device or resource busy" "4 to 2"
groups=$(for vf in virtfn*; do readlink $vf/iommu_group; done | sort -u | wc -l)
equal "$groups" 4 "IOMMU groups"
test ! -e virtfn0/driver
equal "$(errno_of sriov_numvfs 0)" ok "4 to 0"
equal "$(errno_of sriov_numvfs 2)" ok "0 to 2"
echo 0 >sriov_numvfs
EOF
}

check_vf_binds_to_vfio_pci() {
    in_lab <<'EOF'
cd /sys/bus/pci/devices/0000:01:00.0
echo 0 >sriov_drivers_autoprobe
echo 1 >sriov_numvfs
vf=$(basename "$(readlink virtfn0)")
echo vfio-pci >virtfn0/driver_override
echo "$vf" >/sys/bus/pci/drivers_probe
equal "$(basename "$(readlink virtfn0/driver)")" vfio-pci "driver of $vf"
test -c "/dev/vfio/$(basename "$(readlink virtfn0/iommu_group)")"
echo 0 >sriov_numvfs
EOF
}

check_nvme_function_can_be_plugged_and_has_vfs() {
    lab plug nvme
    in_lab <<'EOF'
timeout 20 sh -c 'until ls -d /sys/bus/pci/drivers/nvme/*:* 2>/dev/null; do sleep 0.2; done'
cd /sys/bus/pci/drivers/nvme/*:*
equal "$(cat sriov_totalvfs)" 4 "VFs"
echo 0 >sriov_drivers_autoprobe
equal "$(errno_of sriov_numvfs 2)" ok "0 to 2"
equal "$(ls -d virtfn* | wc -l)" 2 "links"
echo 0 >sriov_numvfs
EOF
    ! lab save with-nvme 2>/dev/null || fail "a lab with an NVMe function was saved"
    equal "$(lab run mountpoint /mnt/host)" "/mnt/host is a mountpoint" "the share after a refused save"
    lab reset
    in_lab <<<'equal "$(ls -d /sys/bus/pci/drivers/nvme/*:* 2>/dev/null)" "" "NVMe functions"'
}
