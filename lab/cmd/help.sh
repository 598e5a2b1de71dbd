#!/bin/bash
# lab help
cat <<'EOF'
A virtual KVM host without GPU hardware, to try vgpud in.

  lab build            make what "up" starts from (cached; a few minutes from nothing)
  lab up [SNAPSHOT]    start from a snapshot, "ready" unless named; builds if needed
  lab down             switch off
  lab run COMMAND...   run a command as root; arguments, streams and exit code pass through
  lab shell            a root shell
  lab put FILE... DIR  copy files into a directory of the lab
  lab save NAME        keep memory and disk as a snapshot
  lab reset [NAME]     go back to a snapshot, "ready" unless named
  lab reboot           clean reboot
  lab cut              power cut, then a cold boot from the disk as it was left
  lab confine          AppArmor and libvirt's stock confinement, by a power cut; before install-lab
  lab split            libvirt's virtqemud instead of libvirtd, built once; before install-lab
  lab plug nvme        hot-plug one more SR-IOV function; "reset" takes it out
  lab sim PRESET...    simulated GPUs: t4 a40-mdev l40s-vfio h100-vfio arc-b panther-lake mi gpu, in any
                       number; "sim off" takes them out. VAR=VALUE goes to the module, as in vf_num=4
  lab status           what there is; exit code 3 when down
  lab check            the lab's own tests
  lab help             this text

Environment:
  VGPUD_LAB_NAME       which lab (default: one for each checkout)
  VGPUD_LAB_SHARE      directory to be seen read-only at /mnt/host
  VGPUD_LAB_TTL        seconds after which a lab that is started now switches itself off
  VGPUD_LAB_CACHE      where built labs are kept (default: ~/.cache/vgpud-lab)
  VGPUD_LAB_ACCEL      kvm, tcg or auto (default: auto, which tries)
  VGPUD_LAB_DEBIAN     which Debian is inside: 12 (libvirt 9.0) or 13 (the default)
  VGPUD_LAB_SUITE      the same by the name of a suite
  VGPUD_LAB_APPARMOR   1: each cold boot has AppArmor on; set by whoever has typed "confine"
  VGPUD_LAB_APPEND     more for the kernel's command line; counts at the next cold boot ("cut")
  VGPUD_LAB_MIRROR     Debian mirror (default: the one this machine's apt uses)

lab/README.md tells more.
EOF
