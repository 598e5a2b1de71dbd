# shellcheck shell=bash
# An NVIDIA and an Intel GPU, simulated, in one host: one profile served by either, another by the one it names.
# Walked by scripts/demo.

two_gpus() {
    chapter "A host with GPUs of two vendors"
    tell "vgpu-sim makes them: PCI, SR-IOV, VFIO, libvirt and QEMU are real, only the silicon is missing."
    silently "modprobe vgpu-sim gpus=l40s-vfio,arc-b"
    prompt_until 30 '0000:42:00.0 ' "vgpuctl gpus | grep -A 3 '^0000:4'"
    expect 'makes VFs only through its own script' "the NVIDIA GPU is not told from others"
    expect 'SR-IOV with shares of memory' "the Intel GPU is not told from others"
}

virtual_functions() {
    chapter "VFs on both: NVIDIA's by its own script (here its stand-in), Intel's by vgpud"
    prompt "echo numvfs=4 >/sys/kernel/debug/vgpu_sim/0000:40:00.0/control"
    prompt "vgpuctl vfs set 42:00.0 4"
    prompt_until 30 'vGPU types of VFs' "vgpuctl gpus | grep -A 3 '^0000:4'"
}

profiles() {
    chapter "One profile that either can serve, and one for NVIDIA alone"
    prompt "vgpuctl profile create any --framebuffer 4GiB"
    prompt "vgpuctl profile create cad --type L40S-4Q"
    prompt "vgpuctl profile explain any | head -4"
    expect '0000:40:00.0 .*nvidia-1150 +4 ' "the NVIDIA GPU cannot serve it four times"
    expect '0000:42:00.0 .* - +4 ' "the Intel GPU cannot serve it four times"
}

attach() {
    chapter "Three domains"
    silently "for name in web1 web2 cad; do lab-guest define \$name; done"
    prompt "for name in web1 web2; do vgpuctl attach \$name --profile any; done; vgpuctl attach cad --profile cad"
    expect '0000:40:00' "no VF of the NVIDIA GPU was chosen"
    expect '0000:42:00' "no VF of the Intel GPU was chosen"
}

start() {
    chapter "Plain virsh start"
    prompt "for name in web1 web2 cad; do virsh -q start \$name || exit; done; virsh list"
    expect 'web1 +running' "web1 does not run"
    prompt "grep -h ^vgpu /sys/kernel/debug/vgpu_sim/0000:40:00.0/state"
    expect 'type=1150.*type=1150' "the driver does not have two vGPUs of the type"

    chapter "What the guests themselves read from their slices"
    prompt "lab-guest slices cad --timeout 300"
    expect 'preset=l40s-vfio .*fb_mib=4096' "cad does not have what it was promised"
    prompt "for name in web1 web2; do lab-guest slices \$name --timeout 300; done"
    expect 'preset=l40s-vfio .*fb_mib=4096' "none has a slice of the NVIDIA GPU"
    expect 'preset=arc-b .*vram=' "none has a slice of the Intel GPU"
    prompt_until 20 'web2 .*in use' "vgpuctl allocations"
}

stop() {
    chapter "Stop: everything is given back"
    prompt "for name in web1 web2 cad; do virsh -q destroy \$name; done"
    prompt_until 20 '^0$' "grep -c ^vgpu /sys/kernel/debug/vgpu_sim/0000:40:00.0/state || true"
    prompt_until 20 'web2 .*reserved' "vgpuctl allocations"
    reject 'in use' "a slice is still in use"
}

journey() {
    two_gpus
    virtual_functions
    profiles
    attach
    start
    stop
}
