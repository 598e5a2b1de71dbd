# shellcheck shell=bash
# The lab's hardware, as QEMU arguments. A snapshot fits exactly one hardware, so this file is
# part of the key of a built lab.

# One vCPU: under TCG nested domains start faster with one than with two.
LAB_MEMORY=2048

# lab_hardware ACCEL: prints one QEMU argument a line.
lab_hardware() {
    case "$1" in
        kvm) printf '%s\n' -accel kvm -cpu host ;;
        # -cpu max emulates SVM, so the lab has a working /dev/kvm of its own.
        tcg) printf '%s\n' -accel tcg,thread=multi,tb-size=1024 -cpu max ;;
        *) die "unknown accelerator $1" ;;
    esac
    printf '%s\n' \
        -machine q35,kernel-irqchip=split \
        -m "$LAB_MEMORY" -smp 1 \
        -nodefaults -no-user-config -display none \
        -device intel-iommu,intremap=on,caching-mode=on,device-iotlb=on \
        -device virtio-blk-pci,drive=disk,bus=pcie.0,addr=2 \
        -device virtio-net-pci,netdev=net,bus=pcie.0,addr=3,romfile= \
        -device pcie-root-port,id=pf1,chassis=1,slot=1,bus=pcie.0,addr=4 \
        -device pcie-root-port,id=pf2,chassis=2,slot=2,bus=pcie.0,addr=5 \
        -device pcie-root-port,id=plug1,chassis=3,slot=3,bus=pcie.0,addr=6 \
        -device pcie-root-port,id=plug2,chassis=4,slot=4,bus=pcie.0,addr=7 \
        -device igb,id=igb1,bus=pf1,mac=52:54:00:12:01:01,romfile= \
        -device igb,id=igb2,bus=pf2,mac=52:54:00:12:02:01,romfile= \
        -device nvme-subsys,id=nvme-subsystem
}

# What the lab's kernel is told. "quiet" matters: every character on a serial line costs under TCG. There the
# check of the timer fails now and then at a warm boot, and the kernel panics over it. The memory that "memmap"
# sets aside is behind the BARs of vgpu-sim's functions.
LAB_CMDLINE="root=/dev/vda console=ttyS0 quiet net.ifnames=0 intel_iommu=on iommu=pt \
mitigations=off no_timer_check apparmor=0 audit=0 nowatchdog random.trust_cpu=on systemd.show_status=0 panic=5 \
memmap=32M\$0x70000000"
