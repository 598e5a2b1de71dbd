# shellcheck shell=bash
# NVIDIA's GPUs as vgpu-sim makes them: what its drivers allow, refuse and forget.

. "$LAB_DIR/check/lib/sim.sh"

check_sim_vfio_vfs_come_by_the_script_only_and_forget_everything() {
    with_gpus l40s-vfio <<'EOF'
equal "$(cat $pci/$pf/sriov_totalvfs)" 32 "VFs there could be"
equal "$(errno_of $pci/$pf/sriov_numvfs 4)" "Operation not permitted" "VFs by hand"
lock=/proc/driver/nvidia/gpus/$pf/unbindLock
exec 5<$sim/$pf/session
echo 1 >$lock
equal "$(cat $lock)" 0 "the unbind lock beside a client"
equal "$(control $pf numvfs=32)" "Device or resource busy" "VFs beside a client"
exec 5<&-
echo 1 >$lock
equal "$(cat $lock)" 1 "the unbind lock"
equal "$( { : <$sim/$pf/session; } 2>&1 | sed 's/.*: //')" "Device or resource busy" "a client beside the lock"
equal "$(control $pf numvfs=32)" ok "VFs"
echo 0 >$lock
equal "$(ls -d $pci/$pf/virtfn* | wc -l)" 32 "VFs"
equal "$(basename "$(readlink $pci/$pf/virtfn1)")" 0000:40:00.5 "the second VF"
for vf in $pci/$pf/virtfn*; do
    test -d $vf/vfio-dev -a -d $vf/nvidia
    equal "$(ls $vf/iommu_group/devices | wc -l)" 1 "functions in the group of $vf"
done
equal "$(driver_of 0000:40:04.3)" nvidia "driver of the last VF"
equal "$(control $pf mode=mixed)" ok "mixed sizes"
equal "$(errno_of $pci/$pf/virtfn0/nvidia/current_vgpu_type 1150)" ok "a type"
equal "$(control $pf numvfs=32)" ok "the script once more"
equal "$(cat $pci/$pf/virtfn0/nvidia/current_vgpu_type)" 1150 "the type after that"
equal "$(control $pf numvfs=0)" ok "no VFs"
equal "$(ls -d $pci/$pf/virtfn* 2>/dev/null)" "" "VFs"
equal "$(control $pf numvfs=32)" ok "VFs again"
grep -x >/dev/null mode=equal $sim/$pf/state
equal "$(cat $pci/$pf/virtfn0/nvidia/current_vgpu_type)" 0 "the type afterwards"
EOF
}

check_sim_vfio_types_of_one_size() {
    with_gpus l40s-vfio <<'EOF'
echo numvfs=32 >$sim/$pf/control
cd $pci/0000:40:00.4/nvidia
equal "$(head -n2 creatable_vgpu_types)" $'ID    : vGPU Name\n1145  : NVIDIA L40S-1B' "the list"
equal "$(wc -l <creatable_vgpu_types)" 31 "lines"
equal "$(cat placement_id 2>&1 | sed 's/.*: //')" "No such device or address" "the placement of nothing"
equal "$(errno_of current_vgpu_type 0)" "Operation not permitted" "0 where none is set"
equal "$(errno_of current_vgpu_type 7)" "Input/output error" "a type that does not exist"
equal "$(errno_of current_vgpu_type many)" "Invalid argument" "no number"
equal "$(errno_of vgpu_params enable_uvm=1)" "Operation not permitted" "parameters of nothing"
equal "$(errno_of current_vgpu_type 1150)" ok "4 GB"
equal "$(cat current_vgpu_type)" 1150 "the type"
equal "$(errno_of current_vgpu_type 1150)" "Operation not permitted" "a type over a type"
equal "$(cat creatable_vgpu_types)" "ID    : vGPU Name" "the list of a VF that has one"
equal "$(errno_of vgpu_params enable_uvm=1,frame_rate_limiter=0)" ok "parameters"
equal "$(cat vgpu_params)" "enable_uvm=1,frame_rate_limiter=0" "parameters"
equal "$(errno_of vgpu_params uvm)" "Invalid argument" "a parameter without a value"
equal "$(errno_of vgpu_params ' ')" ok "clearing"
equal "$(cat vgpu_params)" "" "parameters"
equal "$(control $pf mode=mixed)" "Device or resource busy" "the mode beside a vGPU"
equal "$(control $pf scheduler=fixed-share)" "Device or resource busy" "the scheduler beside a vGPU"
cd ../../0000:40:00.5/nvidia
equal "$(cut -d: -f2- creatable_vgpu_types | tr '\n' ,)" " vGPU Name, NVIDIA L40S-4Q, NVIDIA L40S-4A, NVIDIA L40S-4C," "what fits beside 4 GB"
equal "$(errno_of current_vgpu_type 1149)" "Input/output error" "3 GB beside 4 GB"
for n in {1..11}; do echo 1150 >$pci/$pf/virtfn$n/nvidia/current_vgpu_type; done
equal "$(errno_of $pci/$pf/virtfn12/nvidia/current_vgpu_type 1150)" "Input/output error" "the thirteenth"
equal "$(cat $pci/$pf/virtfn12/nvidia/creatable_vgpu_types)" "ID    : vGPU Name" "the list of a full GPU"
equal "$(cat $pci/$pf/virtfn11/nvidia/placement_id)" 44 "the last placement"
echo 0 >$pci/$pf/virtfn3/nvidia/current_vgpu_type
echo 1160 >$pci/$pf/virtfn31/nvidia/current_vgpu_type
equal "$(cat $pci/$pf/virtfn31/nvidia/placement_id)" 12 "the hole"
grep -x >/dev/null 'vgpu id=[0-9]* vf=0000:40:04.3 type=1160 placement=12 vm_uuid=- running=0 fb_used_mib=0' $sim/$pf/state
EOF
}

# The rows of NVIDIA's tables for 48 GB (Ada) and 80 GB (Hopper), and the one that differs for Ampere.
check_sim_mixed_sizes_at_the_published_placements() {
    with_gpus l40s-vfio h100-vfio a40-mdev <<'EOF'
placements() { awk -v size="$2" '$2 == size && $3 == "mixed" { $1 = $2 = $3 = ""; sub(/^ */, ""); print; exit }' $sim/$1/placements; }
while read -r gpu size ids; do
    equal "$(placements $gpu $size)" "$ids" "placements of $size GB on $gpu"
done <<'TABLE'
0000:40:00.0 48 0
0000:40:00.0 24 0 24
0000:40:00.0 16 0 32
0000:40:00.0 12 0 12 24 36
0000:40:00.0 8 0 16 24 40
0000:40:00.0 6 0 6 12 18 24 30 36 42
0000:40:00.0 4 0 8 12 20 24 32 36 44
0000:40:00.0 3 0 3 6 9 12 15 18 21 24 27 30 33 36 39 42 45
0000:40:00.0 2 0 4 6 10 12 16 18 22 24 28 30 34 36 40 42 46
0000:40:00.0 1 0 5 6 11 12 17 18 23 24 29 30 35 36 41 42 47
0000:42:00.0 80 0
0000:42:00.0 40 0 40
0000:42:00.0 20 0 20 40 60
0000:42:00.0 16 0 24 40 64
0000:42:00.0 10 0 10 20 30 40 50 60 70
0000:42:00.0 8 0 12 20 32 40 52 60 72
0000:42:00.0 5 0 5 10 15 20 25 30 35 40 45 50 55 60 65 70 75
0000:42:00.0 4 0 6 10 16 20 26 30 36 40 46 50 56 60 66 70 76
0000:44:00.0 1 0 2 3 5 6 9 11 12 14 15 17 18 20 21 23 24 26 27 29 30 33 35 36 38 39 41 42 44 45 47
TABLE
equal "$(control $pf mode=mixed)" "Operation not supported" "mixed sizes without VFs"
echo numvfs=4 >$sim/$pf/control
echo mode=mixed >$sim/$pf/control
equal "$(control $pf scheduler=fixed-share)" "Invalid argument" "fixed share of mixed sizes"
equal "$(control $pf scheduler=equal-share)" ok "equal share"
vf=$pci/$pf/virtfn
for pair in 0:1155 1:1154 2:1152; do echo ${pair#*:} >$vf${pair%:*}/nvidia/current_vgpu_type; done
equal "$(cat ${vf}{0,1,2}/nvidia/placement_id | tr '\n' ' ')" "0 32 24 " "24, 16 and 8 GB"
equal "$(errno_of ${vf}3/nvidia/current_vgpu_type 1147)" "Input/output error" "one more"
echo 0 >${vf}0/nvidia/current_vgpu_type
equal "$(errno_of ${vf}3/nvidia/current_vgpu_type 1154)" ok "16 GB once more"
equal "$(errno_of ${vf}3/nvidia/placement_id 8)" "Invalid argument" "a placement that is none of 16 GB"
equal "$(errno_of ${vf}3/nvidia/placement_id 32)" "Device or resource busy" "a placement that is taken"
EOF
}

check_sim_mig_needs_its_instances() {
    with_gpus h100-vfio <<'EOF'
equal "$(control $pf mig=1)" ok "MIG mode"
echo numvfs=8 >$sim/$pf/control
equal "$(control $pf mig=0)" "Device or resource busy" "MIG mode off beside VFs"
equal "$(control $pf mode=mixed)" "Operation not supported" "mixed sizes in MIG mode"
vf=$pci/$pf/virtfn
equal "$(cat ${vf}0/nvidia/creatable_vgpu_types)" "ID    : vGPU Name" "types without an instance"
equal "$(errno_of ${vf}0/nvidia/current_vgpu_type 1144)" "Input/output error" "a type without an instance"
equal "$(control $pf "gi=3g.40gb 2")" ok "two halves"
equal "$(control $pf "gi=1g.10gb 2")" "No space left on device" "more than there is"
equal "$(errno_of ${vf}0/nvidia/current_vgpu_type 1130)" "Input/output error" "a time-sliced type"
echo 1144 >${vf}0/nvidia/current_vgpu_type
echo 1144 >${vf}5/nvidia/current_vgpu_type
equal "$(cat ${vf}{0,5}/nvidia/gpu_instance_id | tr '\n' ' ')" "1 2 " "instances"
equal "$(errno_of ${vf}6/nvidia/current_vgpu_type 1144)" "Input/output error" "a third"
grep >/dev/null 'gi_profile=9 gis=2 gi=3g.40gb name=NVIDIA H100-3-40C' $sim/$pf/state
echo numvfs=0 >$sim/$pf/control
grep -x >/dev/null mig=1 $sim/$pf/state
equal "$(grep -c '^gi ' $sim/$pf/state || true)" 0 "instances afterwards"
echo gi_create=3g.40gb >$sim/$pf/control
equal "$(control $pf mig=0)" "Device or resource busy" "MIG mode off beside an instance"
echo process=1 >$sim/$pf/control
equal "$(control $pf gi_destroy=1)" "Device or resource busy" "an instance beside a process"
echo process=0 >$sim/$pf/control
echo gi_destroy=1 >$sim/$pf/control
equal "$(control $pf mig=0)" ok "MIG mode off"
EOF
}

check_sim_mdev_types_on_the_pf_share_one_size() {
    with_gpus t4 <<'EOF'
types=$pci/$pf/mdev_supported_types
test ! -e $pci/$pf/sriov_numvfs
equal "$(cat $types/nvidia-232/name)" "GRID T4-4Q" name
equal "$(cat $types/nvidia-232/description)" \
    "num_heads=4, frl_config=60, framebuffer=4096M, max_resolution=7680x4320, max_instance=4" description
equal "$(cat $types/nvidia-232/device_api)" vfio-pci "the interface"
equal "$(cat $types/nvidia-{230,232,234}/available_instances | tr '\n' ' ')" "16 4 1 " "of an empty GPU"
uuid=8a1c0e3e-0000-4000-8000-00000000010
for n in 1 2 3 4; do echo $uuid$n >$types/nvidia-232/create; done
equal "$(cat $types/nvidia-{230,232,234,319}/available_instances | tr '\n' ' ')" "0 0 0 0 " "of a full GPU"
equal "$(errno_of $types/nvidia-232/create ${uuid}5)" "No space left on device" "a fifth"
equal "$(errno_of $types/nvidia-232/create ${uuid}4)" "File exists" "a UUID twice"
echo 1 >/sys/bus/mdev/devices/${uuid}4/remove
equal "$(cat $types/nvidia-{230,232,234,319}/available_instances | tr '\n' ' ')" "0 1 0 1 " "after one left"
equal "$(errno_of $types/nvidia-230/create ${uuid}5)" "No space left on device" "another size"
equal "$(cat /sys/bus/mdev/devices/${uuid}1/nvidia/placement_id)" "Not Applicable" "placement"
equal "$(errno_of /sys/bus/mdev/devices/${uuid}1/nvidia/vgpu_params frame_rate_limiter=0)" ok "parameters"
for n in 1 2 3; do echo 1 >/sys/bus/mdev/devices/$uuid$n/remove; done
equal "$(cat $types/nvidia-230/available_instances)" 16 "of an empty GPU"
EOF
}

check_sim_mdev_types_on_vfs_come_late() {
    with_gpus a40-mdev types_delay_ms=2500 <<'EOF'
vf=$pci/$pf/virtfn
test ! -e $pci/$pf/mdev_supported_types
equal "$(control $pf numvfs=8)" ok "VFs"
test ! -e ${vf}7/mdev_supported_types
until_true 120 test -e ${vf}7/mdev_supported_types/nvidia-585
equal "$(cat ${vf}0/mdev_supported_types/nvidia-558/name)" "NVIDIA A40-2B" name
uuid=8a1c0e3e-0000-4000-8000-00000000020
echo ${uuid}1 >${vf}0/mdev_supported_types/nvidia-567/create
equal "$(cat ${vf}0/mdev_supported_types/nvidia-567/available_instances)" 0 "on that VF"
equal "$(errno_of ${vf}0/mdev_supported_types/nvidia-567/create ${uuid}2)" "No space left on device" "two on a VF"
equal "$(cat ${vf}1/mdev_supported_types/nvidia-{567,566}/available_instances | tr '\n' ' ')" "1 0 " "on another"
echo ${uuid}2 >${vf}1/mdev_supported_types/nvidia-567/create
equal "$(cat ${vf}2/mdev_supported_types/nvidia-567/available_instances)" 0 "of a full GPU"
equal "$(control $pf mode=mixed)" "Device or resource busy" "the mode beside a vGPU"
equal "$(control $pf numvfs=0)" ok "no VFs"
test ! -e /sys/bus/mdev/devices/${uuid}1
EOF
}
