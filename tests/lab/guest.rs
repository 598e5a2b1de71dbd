//! A nested guest, asked through `lab-guest` and virsh: witnesses that know nothing of vgpud.

use super::host::{LONG, Lab, Output};

/// What a guest sees of our sample devices, as `VENDOR:DEVICE`.
pub(crate) const MTTY: &str = "4348:3253";
pub(crate) const MBOCHS: &str = "1234:1111";
pub(crate) const IGB_VF: &str = "8086:10ca";

/// A domain of the lab.
#[derive(Debug)]
pub(crate) struct Guest<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) name: String,
}

impl Guest<'_> {
    /// Plain `virsh start`, whatever it comes to.
    pub(crate) fn try_start(&self) -> Output {
        self.lab.run(&format!("virsh start {}", self.name))
    }

    #[track_caller]
    pub(crate) fn start(&self) {
        self.lab.ok(&format!("virsh start {}", self.name));
    }

    #[track_caller]
    pub(crate) fn destroy(&self) {
        self.lab.ok(&format!("virsh destroy {}", self.name));
    }

    /// `vgpuctl attach` of one profile.
    #[track_caller]
    pub(crate) fn attach(&self, profile: &str) -> String {
        self.lab.ok(&format!("vgpuctl attach {} --profile {profile}", self.name))
    }

    #[track_caller]
    pub(crate) fn wait_off(&self) {
        self.lab.wait(&format!("virsh domstate {} | grep -x 'shut off'", self.name), LONG);
    }

    #[track_caller]
    pub(crate) fn is_running(&self) -> bool {
        self.lab.ok(&format!("virsh domstate {}", self.name)) == "running"
    }

    /// Waits until the guest's own Linux sees exactly `count` such devices; 0 waits for them to go.
    #[track_caller]
    pub(crate) fn wait_sees(&self, id: &str, count: usize) {
        self.lab.ok(&format!("lab-guest wait-pci {} {id} {count} --timeout {}", self.name, LONG.as_secs()));
    }

    /// Waits until the guest's firmware has found exactly `count` such devices; seconds earlier than Linux.
    #[track_caller]
    pub(crate) fn wait_firmware_sees(&self, id: &str, count: usize) {
        let fact = format!(
            "list=\"$(lab-guest bios-pci {})\"; echo \"$list\"; test $(grep -c ' {id}$' <<<\"$list\") = {count}",
            self.name
        );
        self.lab.wait(&fact, LONG);
    }

    /// QEMU's arguments, one a line.
    #[track_caller]
    pub(crate) fn command_line(&self) -> String {
        self.lab.ok(&format!("lab-guest cmdline {}", self.name))
    }

    #[track_caller]
    pub(crate) fn pid(&self) -> String {
        self.lab.ok(&format!("cat /run/libvirt/qemu/{}.pid", self.name))
    }

    /// The UUIDs of the mdevs that the definition for the next start names, in its order.
    #[track_caller]
    pub(crate) fn named_mdevs(&self) -> Vec<String> {
        self.hostdev_attribute("--inactive", "//hostdev[@type='mdev']/source/address/@uuid")
    }

    /// The aliases of all hostdevs in the definition for the next start.
    #[track_caller]
    pub(crate) fn aliases(&self) -> Vec<String> {
        self.hostdev_attribute("--inactive", "//hostdev/alias/@name")
    }

    /// The VF addresses that the definition for the next start names, as `0000:01:10.0`.
    #[track_caller]
    pub(crate) fn named_vfs(&self) -> Vec<String> {
        let part = |name: &str| {
            let path = format!("//hostdev[@type='pci']/source/address/@{name}");
            self.hostdev_attribute("--inactive", &path)
        };
        let parts = [part("domain"), part("bus"), part("slot"), part("function")];
        let hex = |text: &str| text.trim_start_matches("0x").to_owned();
        let address = |at: usize| {
            let [domain, bus, slot, function] = parts.each_ref().map(|values| hex(&values[at]));
            format!("{domain}:{bus}:{slot}.{function}")
        };
        (0..parts[0].len()).map(address).collect()
    }

    #[track_caller]
    fn hostdev_attribute(&self, flags: &str, path: &str) -> Vec<String> {
        let command =
            format!("virsh dumpxml {flags} {} | xmllint --xpath \"{path}\" - 2>/dev/null || true", self.name);
        // One line an attribute: ` uuid="…"`.
        self.lab.ok(&command).lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
    }

    /// Requires that QEMU names the device on its command line and is the one process that holds it.
    #[track_caller]
    pub(crate) fn assert_holds(&self, device: &str) {
        let line = self.command_line();
        assert!(line.contains(device), "QEMU of {} does not name {device}:\n{line}", self.name);
        let holders = self.lab.ok(&format!("lab-guest holders {device}"));
        assert_eq!(holders, format!("{} {}", self.pid(), self.name), "who holds {device}");
    }

    /// Waits until our own list says that this guest, by name and pid, uses its slices.
    #[track_caller]
    pub(crate) fn wait_listed_in_use(&self) {
        let text = format!("by domain {} (pid {})", self.name, self.pid());
        self.wait_listed("in use", &text);
    }

    /// Waits until our own list shows all slices of this guest so. Longer than the minute after which the
    /// service looks by itself: libvirt 9.0 says nothing when a definition gets a device.
    #[track_caller]
    pub(crate) fn wait_listed(&self, status: &str, rest: &str) {
        let fact = format!(
            "list=\"$(vgpuctl allocations --domain {0} | tail -n +2)\"; echo \"$list\"
             grep -q ' {0} ' <<<\"$list\" && ! grep -vF '{status}' <<<\"$list\" && ! grep -vF '{rest}' <<<\"$list\"",
            self.name
        );
        self.lab.wait(&fact, LONG);
    }
}
