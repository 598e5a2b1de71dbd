# shellcheck shell=bash
# NVIDIA's library and tools over vgpu-sim: what the one does the other sees, and the module keeps the unbind lock.

. "$LAB_DIR/check/lib/sim.sh"

check_sim_tools_are_answered_from_the_module() {
    with_gpus l40s-vfio h100-vfio t4 gpu <<'EOF'
equal "$(nvidia-smi -L | sed 's/ (UUID.*//')" $'GPU 0: NVIDIA L40S\nGPU 1: NVIDIA H100 PCIe\nGPU 2: Tesla T4' "GPUs"
manage=/usr/lib/nvidia/sriov-manage
$manage -e $pf >/dev/null
equal "$(ls -d $pci/$pf/virtfn* | wc -l)" 32 "VFs"
$manage -e 0000:42:00.0 >/dev/null
equal "$(ls -d $pci/0000:42:00.0/virtfn* | wc -l)" 20 "VFs of the H100"
equal "$({ $manage -e 0000:44:00.0 >/dev/null || true; } 2>&1)" "0000:44:00.0: SR-IOV is not supported" "VFs of a T4"
nvidia-smi vgpu -i 0 -shm 1 >/dev/null
grep -x >/dev/null mode=mixed $sim/$pf/state
placements() { nvidia-smi vgpu -i 0 $1 -v | grep -A6 'Name.*L40S-8Q$' | sed -n 's/.*Placement IDs *: //p'; }
equal "$(placements -s)" "0 16 24 40" "placements"
echo 1154 >$pci/$pf/virtfn0/nvidia/current_vgpu_type
equal "$(placements -c)" "16 24 40" "what is left of them"
status=0; nvidia-smi vgpu -i 0 -shm 0 >/dev/null || status=$?
equal $status 19 "the mode beside a vGPU"
$manage -d $pf >/dev/null
grep -x >/dev/null mode=equal $sim/$pf/state
equal "$(ls -d $pci/$pf/virtfn* 2>/dev/null || true)" "" "VFs afterwards"
EOF
}

check_sim_tools_and_the_module_know_one_unbind_lock() {
    with_gpus l40s-vfio gpu <<'EOF'
manage=/usr/lib/nvidia/sriov-manage
lock=/proc/driver/nvidia/gpus/$pf/unbindLock
exec 5<$sim/$pf/session
equal "$({ $manage -e $pf >/dev/null || true; } 2>&1)" "Cannot obtain unbindLock for $pf" "the script beside a client"
nvidia-smi -L >/dev/null
exec 5<&-
echo 1 >$lock
status=0; nvidia-smi -L >/dev/null || status=$?
equal $status 9 "a client while somebody has the lock"
echo 0 >$lock
$manage -e $pf >/dev/null
equal "$(cat $lock)" 0 "the lock after the script"
nvidia-smi -L >/dev/null
EOF
    with_gpus gpu <<'EOF'
status=0; nvidia-smi -L >/dev/null || status=$?
equal $status 9 "without a GPU of NVIDIA's"
EOF
}

check_sim_tools_make_gpu_instances() {
    with_gpus h100-vfio <<'EOF'
nvidia-smi -i 0 -mig 1 >/dev/null
/usr/lib/nvidia/sriov-manage -e ALL >/dev/null
nvidia-smi mig -i 0 -cgi 9,2g.20gb -C >/dev/null
equal "$(nvidia-smi mig -lgi | awk '/MIG/ { print $4, $5, $6, $7 }')" $'3g.40gb 9 1 0:4\n2g.20gb 14 2 4:2' "instances"
status=0; nvidia-smi mig -cgi 3g.40gb >/dev/null || status=$?
equal $status 23 "one more than there is room for"
vf=$pci/$pf/virtfn
equal "$(cut -d: -f2- ${vf}0/nvidia/creatable_vgpu_types | tr '\n' ,)" " vGPU Name, NVIDIA H100-2-20C, NVIDIA H100-3-40C," "types"
echo 1143 >${vf}3/nvidia/current_vgpu_type
equal "$(cat ${vf}3/nvidia/gpu_instance_id)" 2 "its instance"
status=0; nvidia-smi mig -dgi -gi 2 >/dev/null || status=$?
equal $status 19 "an instance with a vGPU"
nvidia-smi mig -dgi -gi 1 >/dev/null
equal "$(nvidia-smi mig -lgi | grep -c MIG)" 1 "instances afterwards"
EOF
}

check_sim_tools_name_the_vm_of_a_running_vgpu() {
    with_gpus l40s-vfio <<'EOF'
/usr/lib/nvidia/sriov-manage -e $pf >/dev/null
echo 1150 >$pci/$pf/virtfn2/nvidia/current_vgpu_type
guest tools "$(pci_hostdev 0000:40:00.6)"
echo "busy=0000:40:00.6 70 20" >$sim/$pf/control
grep >/dev/null 'running=1 .* sm=70 mem=20' $sim/$pf/state
said="$(nvidia-smi vgpu -q)"
contains "$said" "VM UUID                       : $(virsh domuuid tools | head -n1)" "the VM"
contains "$said" "vGPU Name                     : NVIDIA L40S-4Q" "the type"
lab-guest remove tools
equal "$(nvidia-smi vgpu -q | awk '/Active/ { print $NF }')" 0 "vGPUs that run"
echo 0 >$pci/$pf/virtfn2/nvidia/current_vgpu_type
EOF
}
