#!/bin/bash
# lab plug nvme: hot-plugs one more SR-IOV function, an NVMe controller with four VFs. It is not
# there from the start because it would forbid snapshots. Only "reset" takes it out again: QEMU 10.0
# crashes when an NVMe function with VFs is unplugged.
. "$LAB_DIR/lib/all.sh"

[[ "${1:-}" == nvme ]] || die "usage: lab plug nvme"
lab_prepare_run_dir
lab_lock "$LAB_RUN/lock"
lab_require_up
! lab_has_device nvme1 || die "the NVMe function is plugged already"
lab_qmp call device_add '{"driver": "nvme", "id": "nvme1", "bus": "plug2", "serial": "vgpud-lab",
    "subsys": "nvme-subsystem", "sriov_max_vfs": 4, "sriov_vq_flexible": 8, "sriov_vi_flexible": 4,
    "max_ioqpairs": 26, "msix_qsize": 25}' >/dev/null
