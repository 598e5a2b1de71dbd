# shellcheck shell=bash
# vgpu-sim's faults on demand.

. "$LAB_DIR/check/lib/sim.sh"

check_sim_faults_fail_the_nth_write() {
    with_gpus l40s-vfio arc-b t4 <<'EOF'
fault $pf fail=EBUSY@1
equal "$(control $pf numvfs=4)" "Device or resource busy" "VFs"
equal "$(control $pf numvfs=4)" ok "VFs, the next time"
vf=$pci/$pf/virtfn
fault $pf fail=ENOSPC@2
equal "$(errno_of ${vf}0/nvidia/current_vgpu_type 1150)" ok "the first write"
equal "$(errno_of ${vf}1/nvidia/current_vgpu_type 1150)" "No space left on device" "the second"
equal "$(errno_of ${vf}1/nvidia/current_vgpu_type 1150)" ok "the third"
fault 0000:42:00.0 fail=EIO@1
equal "$(errno_of $pci/0000:42:00.0/sriov_admin/vf1/profile/vram_quota 1073741824)" "Input/output error" "a quota"
fault 0000:44:00.0 fail=EIO@1
type=$pci/0000:44:00.0/mdev_supported_types/nvidia-232
equal "$(errno_of $type/create 8a1c0e3e-0000-4000-8000-000000000401)" "Input/output error" "an mdev"
equal "$(cat $type/available_instances)" 4 "instances after the failure"
equal "$(errno_of $sim/$pf/faults nonsense=1)" "Invalid argument" "a fault that does not exist"
EOF
}

check_sim_faults_late_types_and_a_removal_that_hangs() {
    with_gpus l40s-vfio t4 <<'EOF'
fault $pf late_types_ms=6000
echo numvfs=4 >$sim/$pf/control
vf=$pci/$pf/virtfn0/nvidia
equal "$(cat $vf/creatable_vgpu_types)" "ID    : vGPU Name" "the list at first"
equal "$(errno_of $vf/current_vgpu_type 1150)" "Input/output error" "a type too early"
until_true 120 grep -q L40S-4Q $vf/creatable_vgpu_types
echo 1150 >$vf/current_vgpu_type
fault $pf hang_remove=1
(echo 0 >$vf/current_vgpu_type) &
writer=$!
until_true 120 grep -q '^State:.D' /proc/$writer/status
equal "$(cat $vf/current_vgpu_type)" 1150 "the type during the wait"
fault $pf hang_remove=0
wait $writer
equal "$(cat $vf/current_vgpu_type)" 0 "the type afterwards"
uuid=8a1c0e3e-0000-4000-8000-000000000402
echo $uuid >$pci/0000:42:00.0/mdev_supported_types/nvidia-232/create
fault 0000:42:00.0 hang_remove=1
(echo 1 >/sys/bus/mdev/devices/$uuid/remove) &
writer=$!
until_true 120 grep -q '^State:.D' /proc/$writer/status
equal "$(cat $pci/0000:42:00.0/mdev_supported_types/nvidia-232/available_instances)" 3 "not yet given back"
fault 0000:42:00.0 hang_remove=0
wait $writer
test ! -e /sys/bus/mdev/devices/$uuid
EOF
}

check_sim_faults_reset_and_surprise_removal() {
    with_gpus l40s-vfio arc-b <<'EOF'
echo numvfs=4 >$sim/$pf/control
echo mode=mixed >$sim/$pf/control
echo 1155 >$pci/$pf/virtfn0/nvidia/current_vgpu_type
fault $pf reset=1
until_true 120 grep -qx vfs=0 $sim/$pf/state
until_true 120 test -e $pci/$pf/driver
grep -x >/dev/null mode=equal $sim/$pf/state
equal "$(control $pf numvfs=4)" ok "VFs after a reset"
fault $pf vanish=1
until_true 120 test ! -e $pci/$pf
equal "$(ls -d $pci/0000:40:* 2>/dev/null)" "" "functions of a GPU that vanished"
equal "$(control $pf numvfs=4)" "No such device" "VFs of a GPU that vanished"
test -e $pci/0000:42:00.0/driver
fault $pf return=1
until_true 120 test -e $pci/$pf/driver
equal "$(control $pf numvfs=4)" ok "VFs of a GPU that is back"
echo 1155 >$pci/$pf/virtfn0/nvidia/current_vgpu_type
echo 2 >$pci/0000:42:00.0/sriov_numvfs
fault 0000:42:00.0 vanish=1
until_true 120 test ! -e $pci/0000:42:00.0
fault 0000:42:00.0 return=1
until_true 120 test -e $pci/0000:42:00.0/driver
equal "$(cat $pci/0000:42:00.0/sriov_numvfs)" 0 "VFs of an Intel GPU that is back"
EOF
}
