# shellcheck shell=bash
# scripts/install-lab, with stand-ins for everything that is built.

stand_in_checkout() { # DIRECTORY
    local here="$LAB_DIR/.."
    mkdir -p "$1"/{scripts/lib,systemd,udev,xml-templates,target/debug}
    cp "$here"/scripts/{install-lab,install,uninstall} "$1/scripts/"
    cp "$here/scripts/lib/common.sh" "$1/scripts/lib/"
    cp -R "$here/config" "$1/"
    cp "$here/systemd/vgpud.sysusers" "$1/systemd/"
    ln -s "$(readlink -f "$here/scripts/lab")" "$1/scripts/lab"
    printf '#!/bin/sh\nsystemd-notify --ready\nexec sleep infinity\n' >"$1/target/debug/vgpud"
    printf '#!/bin/sh\necho stand-in\n' >"$1/target/debug/vgpuctl"
    printf '#!/bin/sh\necho "$*" >>/run/hook-calls\n' >"$1/target/debug/vgpu-hook"
    printf '[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/bin/vgpud\n[Install]\nWantedBy=multi-user.target\n' \
        >"$1/systemd/vgpud.service"
    printf '# nothing\n' >"$1/udev/90-vgpud.rules"
    printf '<hostdev/>\n' >"$1/xml-templates/mdev.xml"
}

check_install_puts_everything_in_place_and_saves_a_snapshot() {
    local checkout
    checkout="$(mktemp -d)"
    stand_in_checkout "$checkout"
    CARGO_TARGET_DIR='' "$checkout/scripts/install-lab"
    rm -r "$checkout"
    lab reset
    lab run test ! -e /usr/bin/vgpud
    lab reset installed
    in_lab <<'EOF'
equal "$(systemctl is-active vgpud)" active "the service"
equal "$(systemctl is-enabled vgpud)" enabled "the service"
equal "$(vgpuctl)" stand-in "vgpuctl"
getent group vgpud >/dev/null
test -f /usr/share/vgpud/xml-templates/mdev.xml
test -f /usr/lib/udev/rules.d/90-vgpud.rules
lab-guest define hooked
virsh -q start hooked
equal "$(head -n1 /run/hook-calls)" "hooked prepare begin -" "the first call of the hook"
lab-guest remove hooked
EOF
}

check_install_says_what_is_missing_and_changes_nothing() {
    local checkout message code=0
    checkout="$(mktemp -d)"
    stand_in_checkout "$checkout"
    rm -r "$checkout/systemd"
    lab reset
    message="$(CARGO_TARGET_DIR='' "$checkout/scripts/install-lab" 2>&1)" || code=$?
    rm -r "$checkout"
    equal "$code" 1 "exit code"
    [[ "$message" == *"there is no systemd"* ]] || fail "$message"
    lab run test ! -e /usr/bin/vgpud
}
