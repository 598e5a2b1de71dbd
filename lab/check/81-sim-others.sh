# shellcheck shell=bash
# Intel's, AMD's and plain GPUs as vgpu-sim makes them, and one guest with a slice of each.

. "$LAB_DIR/check/lib/sim.sh"

check_sim_xe_shares_fairly_or_by_hand() {
    with_gpus arc-b panther-lake <<'EOF'
cd $pci/$pf
echo 0 >sriov_drivers_autoprobe
equal "$(ls -A sriov_admin | wc -l)" 26 "entries"
equal "$(readlink -f sriov_admin/pf/device)" "$(readlink -f .)" "the link of the PF"
equal "$(cat sriov_admin/vf24/profile/vram_quota)" 0 "a quota before"
equal "$(cat sriov_admin/{pf,vf1}/profile/sched_priority)" $'[low] normal high\n[low] normal' "priorities"
equal "$(stat -c %a sriov_admin/vf1/profile/sched_priority sriov_admin/.bulk_profile/vram_quota | tr '\n' ' ')" "444 200 " "modes"
equal "$(errno_of sriov_numvfs 25)" "Numerical result out of range" "25 VFs"
equal "$(errno_of sriov_numvfs 4)" ok "4 VFs"
equal "$(errno_of sriov_numvfs 2)" "Device or resource busy" "4 to 2"
equal "$(basename "$(readlink sriov_admin/vf2/device)")" "$(basename "$(readlink virtfn1)")" "the link of VF 2"
test ! -e sriov_admin/vf5/device
equal "$(cat sriov_admin/vf{1,4}/profile/vram_quota | tr '\n' ' ')" "6308233216 6308233216 " "fair shares"
equal "$(errno_of sriov_admin/vf1/profile/vram_quota 0)" "Device or resource busy" "a quota beside VFs"
equal "$(errno_of sriov_admin/vf1/profile/exec_quantum_ms 20)" ok "a quantum beside VFs"
equal "$(cat sriov_admin/vf{1,2}/profile/exec_quantum_ms | tr '\n' ' ')" "20 0 " "quanta"
equal "$(errno_of sriov_admin/vf1/stop 1)" ok "stop"
equal "$(errno_of sriov_admin/vf9/stop 1)" "No such device" "stop of a VF that is not there"
echo 0 >sriov_numvfs
equal "$(cat sriov_admin/vf1/profile/vram_quota)" 0 "the quota after"
equal "$(errno_of sriov_admin/vf1/profile/vram_quota 4294967297)" ok "4 GiB and a byte"
equal "$(cat sriov_admin/vf1/profile/vram_quota)" 4297064448 "what was made of it"
equal "$(errno_of sriov_admin/vf2/profile/vram_quota 99999999999)" "No space left on device" "more than there is"
echo 2 >sriov_numvfs
equal "$(cat sriov_admin/vf{1,2}/profile/vram_quota | tr '\n' ' ')" "4297064448 0 " "shares by hand"
echo 0 >sriov_numvfs
equal "$(errno_of sriov_admin/.bulk_profile/sched_priority high)" "Invalid argument" "high for all"
equal "$(errno_of sriov_admin/.bulk_profile/sched_priority normal)" ok "normal for all"
equal "$(cat sriov_admin/vf7/profile/sched_priority)" "low [normal]" "priority"
equal "$(errno_of sriov_admin/.bulk_profile/vram_quota 1073741824)" "No space left on device" "1 GiB for each of 24"
equal "$(errno_of sriov_admin/.bulk_profile/vram_quota 536870912)" ok "512 MiB for each"
cd $pci/0000:42:00.0
test ! -e sriov_admin/vf1/profile/vram_quota
test ! -e sriov_admin/.bulk_profile/vram_quota
equal "$(cat sriov_totalvfs)" 7 "VFs of the integrated one"
EOF
}

check_sim_gim_has_the_vfs_of_its_load() {
    with_gpus mi vf_num=4 <<'EOF'
cd $pci/$pf
equal "$(cat vendor device class | tr '\n' ' ')" "0x1002 0x74a1 0x120000 " "identity"
equal "$(cat sriov_numvfs)" 4 "VFs"
equal "$(cat virtfn0/device)" 0x74b5 "a VF"
test ! -e virtfn0/driver
equal "$(errno_of sriov_numvfs 0)" "No such file or directory" "another count"
equal "$(cat accelerator_partition_profile)" CPX "partitions"
EOF
}

check_sim_plain_gpu_shares_its_group_with_its_audio() {
    with_gpus gpu <<'EOF'
equal "$(ls $pci/$pf/iommu_group/devices | tr '\n' ' ')" "0000:40:00.0 0000:40:00.1 " "the group"
equal "$(driver_of 0000:40:00.0) $(driver_of 0000:40:00.1)" "amdgpu snd_hda_intel" "drivers"
equal "$(cat $pci/0000:40:00.1/class)" 0x040300 "the second function"
test ! -e $pci/$pf/sriov_totalvfs
to_vfio 0000:40:00.0 0000:40:00.1
equal "$(rmmod vgpu-sim 2>&1 | grep -c 'in use')" 1 "rmmod beside vfio-pci"
from_vfio 0000:40:00.0 0000:40:00.1
equal "$(driver_of 0000:40:00.0)" amdgpu "driver afterwards"
EOF
}

# All roads in one guest: each slice says from inside that it is the one that was promised.
check_sim_guest_gets_the_slices_it_was_promised() {
    with_gpus l40s-vfio arc-b mi a40-mdev t4 gpu vf_num=4 <<'EOF'
# libvirt looks at every function, and the guest waits meanwhile.
echo numvfs=4 >$sim/0000:40:00.0/control
echo numvfs=2 >$sim/0000:46:00.0/control
echo 0 >$pci/0000:42:00.0/sriov_drivers_autoprobe
echo 3 >$pci/0000:42:00.0/sriov_numvfs
to_vfio 0000:42:00.5 0000:44:00.6 0000:4a:00.0 0000:4a:00.1
a40=8a1c0e3e-0000-4000-8000-000000000301 t4=8a1c0e3e-0000-4000-8000-000000000302
until_true 120 test -e $pci/0000:46:00.4/mdev_supported_types/nvidia-562
echo $a40 >$pci/0000:46:00.4/mdev_supported_types/nvidia-562/create
echo $t4 >$pci/0000:48:00.0/mdev_supported_types/nvidia-231/create
vf=$pci/0000:40:00.6/nvidia/current_vgpu_type
all=("$(pci_hostdev 0000:40:00.6)" "$(pci_hostdev 0000:42:00.5)" "$(pci_hostdev 0000:44:00.6)"
    "$(mdev_hostdev $a40)" "$(mdev_hostdev $t4)" "$(pci_hostdev 0000:4a:00.0)")
error="$(guest bare "${all[0]}" 2>&1)" && { echo "it started with a VF that has no type"; exit 1; }
contains "$error" "No such device" "the error without a type"
lab-guest remove bare
echo 1147 >$pci/0000:40:00.5/nvidia/current_vgpu_type
echo 1157 >$vf
guest every "${all[@]}"
slices="$(lab-guest slices every --timeout 600)"
for text in \
    "preset=l40s-vfio pf=0000:40:00.0 vf=0000:40:00.6 vgpu=2 type=1157 placement=1 fb_mib=1024" \
    "preset=arc-b pf=0000:42:00.0 vf=0000:42:00.5 number=2 vram=8409579520" \
    "preset=mi pf=0000:44:00.0 vf=0000:44:00.6 number=2 fb_mib=49152" \
    "preset=a40-mdev pf=0000:46:00.0 vf=0000:46:00.4 vgpu=1 type=562 placement=0 fb_mib=4096 mdev=$a40" \
    "preset=t4 pf=0000:48:00.0 vf=0000:48:00.0 vgpu=1 type=231 placement=0 fb_mib=2048 mdev=$t4" \
    "preset=gpu pf=0000:4a:00.0 whole=1"; do
    contains "$slices" "$text" "what the guest reads"
done
equal "$(lab-guest pci every | cut -d' ' -f2 | grep -cE '10de:(26b9|2235|1eb8)|8086:e211|1002:(74b5|73bf)')" 6 "GPUs in the guest"
grep >/dev/null 'vf=0000:40:00.6 type=1157 placement=1 vm_uuid=- running=1' $sim/0000:40:00.0/state
equal "$(errno_of $vf 0)" "Device or resource busy" "taking a type from under a guest"
equal "$(errno_of $pci/0000:40:00.6/nvidia/vgpu_params enable_uvm=1)" "Operation not permitted" "parameters of a running vGPU"
equal "$(control 0000:40:00.0 numvfs=0)" "Device or resource busy" "taking the VFs"
equal "$(rmmod vgpu-sim 2>&1 | grep -c 'in use')" 1 "rmmod beside a guest"
lab-guest remove every
equal "$(errno_of $vf 0)" ok "taking the type afterwards"
from_vfio 0000:42:00.5 0000:44:00.6 0000:4a:00.0 0000:4a:00.1
EOF
}
