# shellcheck shell=bash
# Read in front of each check of vgpu-sim, in the lab. The first GPU is 0000:40:00.0, the second 0000:42:00.0.
pci=/sys/bus/pci/devices
sim=/sys/kernel/debug/vgpu_sim
pf=0000:40:00.0

control() { errno_of "$sim/$1/control" "$2"; }
fault() { printf %s "$2" >"$sim/$1/faults"; }
driver_of() { basename "$(readlink "$pci/$1/driver" || echo none)"; }

# pci_hostdev ADDRESS: the hostdev of a function.
pci_hostdev() {
    local domain bus slot function
    IFS=:. read -r domain bus slot function <<<"$1"
    printf "<hostdev mode='subsystem' type='pci' managed='%s'><source>
        <address domain='0x%s' bus='0x%s' slot='0x%s' function='0x%s'/></source></hostdev>\n" \
        "${2:-no}" "$domain" "$bus" "$slot" "$function"
}

mdev_hostdev() {
    printf "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='%s'/></source></hostdev>\n" "$1"
}

# guest NAME HOSTDEV...: a running guest with these hostdevs.
guest() {
    local name="$1" xml
    local -a arguments=()
    shift
    for xml in "$@"; do
        printf '%s' "$xml" >"/tmp/$name-${#arguments[@]}.xml"
        arguments+=(--hostdev-xml "/tmp/$name-${#arguments[@]}.xml")
    done
    lab-guest define "$name" "${arguments[@]}"
    virsh -q start "$name"
}

# to_vfio ADDRESS...: from whichever driver to vfio-pci.
to_vfio() {
    local address
    for address in "$@"; do
        echo vfio-pci >"$pci/$address/driver_override"
        [[ ! -e "$pci/$address/driver" ]] || echo "$address" >"$pci/$address/driver/unbind"
        echo "$address" >/sys/bus/pci/drivers_probe
        equal "$(driver_of "$address")" vfio-pci "driver of $address"
    done
}

# from_vfio ADDRESS...: back to whoever drives it by itself.
from_vfio() {
    local address
    for address in "$@"; do
        echo "$address" >"$pci/$address/driver/unbind"
        echo >"$pci/$address/driver_override"
        echo "$address" >/sys/bus/pci/drivers_probe
    done
}

# until_true SECONDS COMMAND...
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || { echo "waited in vain for: $*"; return 1; }
        sleep 0.05
    done
}

contains() { [[ "$1" == *"$2"* ]] || { printf '%s: "%s" is not in "%s"\n' "$3" "$2" "$1"; exit 1; }; }
