//! Where things are, and the configuration file.
//!
//! All three binaries honour `VGPUD_ROOT` (everything below another directory; for tests and
//! rehearsals), `VGPUD_SOCKET` and `VGPUD_LIBVIRT_URI`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::model::{HostRules, PciId, one_line};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file exists and cannot be read.
    #[error("cannot read configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("line {line} of configuration {path}: {text}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there, in one line.
        text: String,
    },
}

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    rehearsal: bool,
    socket: PathBuf,
    libvirt_uri: String,
}

impl Paths {
    /// Reads the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let root = var("VGPUD_ROOT").map(PathBuf::from);
        let socket = var("VGPUD_SOCKET").map(PathBuf::from);
        let uri = var("VGPUD_LIBVIRT_URI").map(|uri| uri.to_string_lossy().into_owned());
        Self::new(root, socket, uri)
    }

    /// Creates the paths from what the environment says; `None` takes the default.
    #[must_use]
    pub fn new(root: Option<PathBuf>, socket: Option<PathBuf>, libvirt_uri: Option<String>) -> Self {
        let rehearsal = root.is_some();
        let default_uri = if rehearsal { "none" } else { "qemu:///system" };
        let root = root.unwrap_or_else(|| PathBuf::from("/"));
        Self {
            socket: socket.unwrap_or_else(|| root.join("run/vgpud/vgpud.sock")),
            libvirt_uri: libvirt_uri.unwrap_or_else(|| default_uri.to_owned()),
            rehearsal,
            root,
        }
    }

    /// Returns the directory that stands for `/`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether `VGPUD_ROOT` is set: not the real host.
    #[must_use]
    pub const fn is_rehearsal(&self) -> bool {
        self.rehearsal
    }

    /// Returns the service's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the libvirt URI: a real one, `none`, or `dir:PATH`.
    #[must_use]
    pub fn libvirt_uri(&self) -> &str {
        &self.libvirt_uri
    }

    /// Returns where NVIDIA's management library is; `None` leaves it to the system's linker. A rehearsal has one of
    /// its own, or none: it must not ask the machine's.
    #[must_use]
    pub fn nvml(&self, config: &Nvidia) -> Option<PathBuf> {
        let own = || self.rehearsal.then(|| self.root.join("usr/lib/libnvidia-ml.so.1"));
        config.library.clone().or_else(own)
    }

    /// Returns the file that lists our UUIDs and VF addresses, one a line, for the hook.
    #[must_use]
    pub fn owned(&self) -> PathBuf {
        self.root.join("run/vgpud/owned")
    }

    /// Returns the runtime directory.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run/vgpud")
    }

    /// Returns the socket that stands for the kernel's announcements in a rehearsal.
    #[must_use]
    pub fn uevents(&self) -> PathBuf {
        self.root.join("run/vgpud/uevents")
    }

    /// Returns the directory of the database.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("var/lib/vgpud")
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("etc/vgpud/vgpud.toml")
    }

    /// Returns the template directories: the admin's own, then the packaged one.
    #[must_use]
    pub fn template_dirs(&self) -> [PathBuf; 2] {
        [self.root.join("etc/vgpud/xml-templates"), self.root.join("usr/share/vgpud/xml-templates")]
    }
}

/// `/etc/vgpud/vgpud.toml`. Unknown keys are refused; an absent file is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which devices are looked at.
    pub devices: Devices,
    /// What happens before libvirt starts.
    pub boot: Boot,
    /// How GPUs are chosen, and what each owner may have.
    pub placement: HostRules,
    /// Where NVIDIA's parts are.
    pub nvidia: Nvidia,
}

/// Where NVIDIA's parts are, when not where its packages put them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nvidia {
    /// The script that makes VFs.
    pub sriov_manage: Option<PathBuf>,
    /// The management library, instead of the system's `libnvidia-ml.so.1`.
    pub library: Option<PathBuf>,
}

/// What happens before libvirt starts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Boot {
    /// How many seconds libvirt is kept waiting at most for what guaranteed slices and autostart domains need.
    #[serde(deserialize_with = "wait_s")]
    pub wait_s: u16,
}

impl Default for Boot {
    fn default() -> Self {
        Self { wait_s: 60 }
    }
}

/// Longer than any firmware takes to bring up a card, shorter than an admin's patience with a boot.
const MOST_WAIT_S: u16 = 900;

fn wait_s<'de, D: serde::Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    let seconds = u16::deserialize(value)?;
    match seconds <= MOST_WAIT_S {
        true => Ok(seconds),
        false => {
            let text = format!("boot.wait_s is {seconds}, and at most {MOST_WAIT_S}");
            Err(serde::de::Error::custom(text))
        }
    }
}

/// Which devices are looked at besides display-class and mdev-capable ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Devices {
    /// PCI ids of further PFs that vgpud manages, e.g. `["8086:10c9"]`.
    pub include: BTreeSet<PciId>,
}

impl Config {
    /// Reads the configuration file.
    ///
    /// # Errors
    /// When the file exists and cannot be read, is not TOML, or has unknown keys.
    pub fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let path = paths.config_file();
        #[expect(clippy::disallowed_methods, reason = "the one reader of the configuration file")]
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
            ConfigError::Parse { path, line, text: one_line(error.message(), 300) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_moves_everything_and_turns_libvirt_off() {
        let paths = Paths::new(Some("/tmp/x".into()), None, None);
        assert_eq!(paths.socket(), Path::new("/tmp/x/run/vgpud/vgpud.sock"));
        assert_eq!(paths.libvirt_uri(), "none");
        assert!(paths.is_rehearsal());
        assert_eq!(Paths::new(None, None, None).libvirt_uri(), "qemu:///system");
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let paths = Paths::new(Some(dir.path().into()), None, None);
        assert_eq!(Config::load(&paths).expect("absent file"), Config::default());
        std::fs::create_dir_all(dir.path().join("etc/vgpud")).expect("directory");
        #[expect(clippy::disallowed_methods, reason = "test fixture")]
        std::fs::write(paths.config_file(), "[devices]\ninclud = []\n").expect("file");
        let error = Config::load(&paths).expect_err("unknown key");
        let told = error.to_string();
        assert!(told.starts_with("line 2 of configuration ") && told.contains("`includ`"), "{told}");
        assert!(!told.contains('\n'), "a refusal is one line: {told}");
    }

    #[test]
    fn the_wait_for_late_devices_has_a_default_and_a_limit() {
        assert_eq!(Config::default().boot.wait_s, 60);
        let read = |text: &str| toml::from_str::<Config>(text);
        assert_eq!(read("[boot]\nwait_s = 0\n").expect("valid").boot.wait_s, 0);
        assert!(read("[boot]\nwait_s = 901\n").expect_err("too long").to_string().contains("at most 900"));
    }
}
