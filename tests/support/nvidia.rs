//! NVIDIA's library and script beside the fake kernel: the lab's library over files, and a script that does to
//! both what the real one does to driver and kernel.

#![expect(clippy::disallowed_methods, reason = "cargo is what makes the library")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::spec::HostSpec;
use super::world::World;

/// The GPUs of [`HostSpec::vgpu_vfs`].
pub(crate) const GPUS: [&str; 2] = ["0000:41:00.0", "0000:c1:00.0"];

/// VFs that each of them has.
pub(crate) const VFS: u32 = 8;

/// The library's files and the script.
pub(crate) struct Nvidia {
    dir: TempDir,
    /// What the first GPU is; the second is an L40S.
    first: &'static str,
}

/// An L40S, and an H100, by the records that tell what they are.
const L40S: &str = "board=NVIDIA L40S\npreset=l40s-vfio\nframebuffer_mib=49152\n\
    type id=1152 fb_mib=4096 max=12 gi_profile=- name=NVIDIA L40S-4Q\n\
    type id=1155 fb_mib=8192 max=6 gi_profile=- name=NVIDIA L40S-8Q\n\
    type id=1158 fb_mib=24576 max=2 gi_profile=- name=NVIDIA L40S-24Q\n";
const H100: &str = "board=NVIDIA H100 PCIe\npreset=h100-vfio\nframebuffer_mib=81920\n\
    type id=1132 fb_mib=8192 max=10 gi_profile=- name=NVIDIA H100-8C\n\
    type id=1136 fb_mib=40960 max=2 gi_profile=- name=NVIDIA H100-40C\n\
    type id=1141 fb_mib=10240 max=7 gi_profile=19 gis=7 gi=1g.10gb name=NVIDIA H100-1-10C\n\
    type id=1143 fb_mib=20480 max=3 gi_profile=14 gis=3 gi=2g.20gb name=NVIDIA H100-2-20C\n\
    type id=1144 fb_mib=40960 max=2 gi_profile=9 gis=2 gi=3g.40gb name=NVIDIA H100-3-40C\n";

/// Builds the lab's library, or finds it built.
fn library() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/lab-nvml");
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--manifest-path"]).arg(root.join("lab/nvml/Cargo.toml"));
    let built = cargo.arg("--target-dir").arg(&target).status().expect("cargo runs");
    assert!(built.success(), "the lab's library does not compile");
    target.join("debug/libnvidia_ml.so")
}

impl Nvidia {
    /// Puts them beside a host whose GPUs have no VFs, and makes the service find them.
    pub(crate) fn new() -> (Self, World) {
        Self::beside(HostSpec::vgpu_vfs(), L40S)
    }

    /// As [`Nvidia::new`], the first GPU an H100.
    pub(crate) fn with_mig() -> (Self, World) {
        Self::beside(HostSpec::mig(), H100)
    }

    fn beside(mut spec: HostSpec, first: &'static str) -> (Self, World) {
        for gpu in &mut spec.pci {
            gpu.sriov.as_mut().expect("a PF").enabled = 0;
        }
        let mut world = World::new(spec);
        let nvidia = Self { dir: tempfile::tempdir().expect("directory"), first };
        for gpu in GPUS {
            let dir = nvidia.dir.path().join(gpu);
            std::fs::create_dir_all(&dir).expect("directory");
            let control = world.host.root().join("sys/bus/pci/devices").join(gpu).join("vendor_control");
            std::os::unix::fs::symlink(control, dir.join("control")).expect("a link");
        }
        nvidia.boot();
        let script = nvidia.dir.path().join("sriov-manage");
        std::fs::write(&script, nvidia.script(world.host.root())).expect("script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let (library, script) = (library(), script.display().to_string());
        let config = format!("[nvidia]\nlibrary = {library:?}\nsriov_manage = {script:?}\n");
        world.host.put("etc/vgpud/vgpud.toml", &config);
        world.environment.push(("VGPU_SIM_STATE".to_owned(), nvidia.dir.path().display().to_string()));
        (nvidia, world)
    }

    /// Where a GPU's state is.
    fn state_path(&self, gpu: &str) -> PathBuf {
        self.dir.path().join(gpu).join("state")
    }

    /// What was set at run time is as after a boot; MIG mode is persistent.
    pub(crate) fn boot(&self) {
        for (gpu, what) in GPUS.into_iter().zip([self.first, L40S]) {
            let dir = self.dir.path().join(gpu);
            let mig = self.state_path(gpu).exists() && self.get(gpu, "mig") == "1";
            let text = format!(
                "uuid=GPU-{gpu}\nmode=equal\nmig={}\nscheduler=best-effort\ntime_slice_ns=0\nvfs=0\n\
                 process=0\ntotal_vfs={VFS}\n{what}",
                u32::from(mig)
            );
            std::fs::write(dir.join("state"), text).expect("state");
            std::fs::write(dir.join("session"), "").expect("session");
            self.tell(gpu, &format!("mig={}", u32::from(mig)));
        }
    }

    /// Tells the driver something, as the library does.
    fn tell(&self, gpu: &str, setting: &str) {
        let mut control = std::fs::File::options();
        let mut control =
            control.append(true).open(self.dir.path().join(gpu).join("control")).expect("opens");
        control.write_all(setting.as_bytes()).expect("is taken");
    }

    /// The profiles of a GPU's instances, in the order in which they were made.
    pub(crate) fn instances(&self, gpu: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.state_path(gpu)).expect("state");
        let all = text.lines().filter(|line| line.starts_with("gi "));
        all.filter_map(|line| Some(line.split_once("name=")?.1.to_owned())).collect()
    }

    /// Somebody makes a GPU instance beside the service.
    pub(crate) fn make_instance(&self, gpu: &str, id: u32, profile: &str, number: u32, start: u32) {
        self.tell(gpu, &format!("gi_create={profile}"));
        let mut text = std::fs::read_to_string(self.state_path(gpu)).expect("state");
        text.push_str(&format!("gi id={id} profile={number} start={start} size=1 name={profile}\n"));
        std::fs::write(self.state_path(gpu), text).expect("state");
    }

    /// It fails while anybody has the GPU open, and loses what was set at run time.
    fn script(&self, root: &Path) -> String {
        let (dir, root) = (self.dir.path().display(), root.display());
        format!(
            "#!/bin/sh\nset -e\n\
             case $1 in -e) n={VFS};; -d) n=0;; *) exit 2;; esac\n\
             gpu={dir}/$2\n\
             echo \"$1 $2\" >>{dir}/calls\n\
             flock -n -x $gpu/session true || {{ echo \"Cannot obtain unbindLock for $2\" >&2; exit 1; }}\n\
             echo $n >$(readlink -f {root}/sys/bus/pci/devices/$2)/vendor_numvfs\n\
             sed -i \"s/^vfs=.*/vfs=$n/; s/^mode=.*/mode=equal/; s/^scheduler=.*/scheduler=best-effort/; \
             s/^time_slice_ns=.*/time_slice_ns=0/; /^gi /d\" $gpu/state\n"
        )
    }

    /// The value of a key of a GPU's state.
    pub(crate) fn get(&self, gpu: &str, key: &str) -> String {
        let text = std::fs::read_to_string(self.state_path(gpu)).expect("state");
        let found = text.lines().find_map(|line| line.split_once('=').filter(|(name, _)| *name == key));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    }

    /// Somebody sets a GPU beside the service.
    pub(crate) fn by_hand(&self, gpu: &str, key: &str, value: &str) {
        let text = std::fs::read_to_string(self.state_path(gpu)).expect("state");
        let put = |line: &str| match line.split_once('=') {
            Some((name, _)) if name == key => format!("{key}={value}\n"),
            _ => format!("{line}\n"),
        };
        std::fs::write(self.state_path(gpu), text.lines().map(put).collect::<String>()).expect("state");
    }

    /// How the script was called.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
