#!/bin/bash
# The lab's root file system as a directory: Debian packages, then our files over them.
# Usage: rootfs.sh DIR
. "$LAB_DIR/lib/common.sh"
. "$LAB_DIR/lib/mirror.sh"

root="$1"

packages="$(grep -v '^#' "$LAB_DIR/image/packages" | paste -sd,)"
lab_bootstrap "$root" apt "$packages"
