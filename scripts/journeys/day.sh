# shellcheck shell=bash
# An admin's day on the kernel's sample devices: mediated devices, a refusal explained, virtual functions.
# Walked by scripts/demo.

what_is_there() {
    chapter "What is on this host, and what can be made on it?"
    tell "mbochs, mdpy and mtty are the kernel's own sample drivers of mediated devices."
    prompt "vgpuctl gpus"
    expect 'virtual:mbochs.*mbochs-large +mbochs-large +64MiB' "mbochs and its types are not listed"
    expect 'mdpy-hd.*mtty-1' "mdpy or mtty is not listed"
}

a_profile() {
    chapter "A profile: a wish with a name"
    prompt "vgpuctl profile create desk --framebuffer 64MiB"
    prompt "vgpuctl profile explain desk"
    expect 'mbochs +virtual:mbochs +mbochs-large +4 ' "mbochs cannot serve the profile four times"
}

attach() {
    chapter "Attach it to a domain: only the definition changes"
    silently "lab-guest define web1"
    prompt "vgpuctl attach web1 --profile desk"
    expect 'web1 +desk' "nothing was attached"
    prompt "virsh dumpxml web1 --inactive | sed -n '/<hostdev/,/<\\/hostdev>/p'"
    expect "alias name='ua-vgpud-[0-9a-f]+'" "the definition does not have our hostdev"
    [[ "$output" =~ uuid=\'([0-9a-f-]{36})\' ]] || wrong "the hostdev has no UUID"
    uuid="${BASH_REMATCH[1]}"
    prompt "ls /sys/bus/mdev/devices | wc -l"
    expect '^0$' "a slice was made before the domain starts"
}

start() {
    chapter "Plain virsh start: libvirt's hook has the slice made on the best parent"
    prompt "virsh start web1"
    expect "'web1' started" "the domain did not start"
    prompt "ls /sys/bus/mdev/devices"
    expect "^$uuid\$" "the mdev of the definition is not there"

    chapter "The guest's own list of PCI devices (a small Linux prints it on its serial line)"
    prompt "lab-guest pci web1"
    expect '1234:1111 03' "the guest does not see a display controller 1234:1111"

    chapter "The same from outside: QEMU's command line, and who holds the device"
    prompt "lab-guest cmdline web1 | grep $uuid"
    expect "sysfsdev.*$uuid" "QEMU was not given the mdev"
    prompt "lab-guest holders $uuid"
    expect '^[0-9]+ web1$' "web1 does not hold the mdev"
    prompt_until 20 'in use on mbochs by domain web1' "vgpuctl allocations"
}

stop() {
    chapter "Stop: the slice is given back"
    prompt "virsh destroy web1"
    prompt_until 10 '^0$' "ls /sys/bus/mdev/devices | wc -l"
    prompt "cat /sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large/available_instances"
    expect '^4$' "not all instances are available again"
    prompt "vgpuctl allocations"
    expect 'web1 .*attached .*reserved' "the promise did not outlive the stop"
}

refusal() {
    chapter "When nothing fits, virsh start says why in one line"
    prompt "for n in 1 2 3 4; do vgpuctl mdev create mbochs mbochs-large; done"
    local made="${output%%$'\n'*}"
    prompt_refused "virsh start web1"
    expect 'vgpud: cannot place .*desk.*mbochs' "libvirt's message does not carry ours"
    prompt "vgpuctl profile explain desk"
    expect 'mbochs +virtual:mbochs +mbochs-large +0 ' "explain does not see that mbochs is full"
    tell "One goes, and the same domain starts:"
    prompt "vgpuctl mdev remove $made"
    prompt "virsh start web1 && virsh destroy web1"
    silently 'for mdev in $(ls /sys/bus/mdev/devices); do vgpuctl mdev remove $mdev >/dev/null 2>&1; done || true'
}

virtual_functions() {
    chapter "The other road, SR-IOV: a PF that is no display device is named in the configuration"
    prompt "mkdir -p /etc/vgpud && printf '[devices]\ninclude = [\"8086:10c9\"]\n' > /etc/vgpud/vgpud.toml"
    prompt "cat /etc/vgpud/vgpud.toml && systemctl restart vgpud"
    prompt "vgpuctl gpus | grep -A 4 '^0000:01:00.0'"
    expect '0 of 7 VFs enabled' "the PF is not listed"
    prompt "vgpuctl vfs set 01:00.0 4"
    prompt "for vf in /sys/bus/pci/devices/0000:01:00.0/virtfn*; do echo \$(basename \$(readlink \$vf)) \$(basename \$(readlink \$vf/driver)); done"
    expect '([0-9a-f:.]+ vfio-pci.?){4}' "not every VF is on vfio-pci"

    chapter "Profile, attach, plain virsh start: a virtual function in the guest"
    silently "lab-guest define web2"
    prompt "vgpuctl profile create port --vf 8086:10ca"
    prompt "vgpuctl attach web2 --profile port"
    [[ "$output" =~ (0000:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) ]] || wrong "no VF was chosen"
    local vf="${BASH_REMATCH[1]}"
    prompt "virsh start web2"
    prompt "lab-guest wait-pci web2 8086:10ca && lab-guest pci web2 | grep 8086:10ca"
    expect '8086:10ca 02' "the guest does not see the VF"
    prompt "lab-guest holders $vf"
    expect '^[0-9]+ web2$' "web2 does not hold the VF"
    prompt_refused "vgpuctl vfs set 01:00.0 2"
    expect 'web2' "the refusal does not say who uses the VFs"
    prompt "virsh destroy web2"
    prompt_until 20 'web2 .*reserved' "vgpuctl allocations"
}

journey() {
    what_is_there
    a_profile
    attach
    start
    stop
    refusal
    virtual_functions
}
