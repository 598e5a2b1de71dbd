# shellcheck shell=bash
# scripts/install-lab, with stand-ins for everything that is built.

stand_in_checkout() { # DIRECTORY
    mkdir -p "$1"/{scripts/hooks,systemd,udev,xml-templates,target/debug}
    cp "$LAB_DIR/../scripts/install-lab" "$1/scripts/"
    ln -s "$(readlink -f "$LAB_DIR/../scripts/lab")" "$1/scripts/lab"
    printf '#!/bin/sh\nsystemd-notify --ready\nexec sleep infinity\n' >"$1/target/debug/vgpud"
    printf '#!/bin/sh\necho stand-in\n' >"$1/target/debug/vgpuctl"
    printf '#!/bin/sh\necho "$*" >>/run/hook-calls\n' >"$1/target/debug/vgpu-hook"
    printf '#!/bin/sh\nexec /usr/bin/vgpu-hook "$@"\n' >"$1/scripts/hooks/qemu.d-vgpud"
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
    rm "$checkout/systemd/vgpud.service"
    lab reset
    message="$(CARGO_TARGET_DIR='' "$checkout/scripts/install-lab" 2>&1)" || code=$?
    rm -r "$checkout"
    equal "$code" 1 "exit code"
    [[ "$message" == *"there is no systemd/vgpud.service"* ]] || fail "$message"
    lab run test ! -e /usr/bin/vgpud
}
