//! Which VFIO driver a PCI function wants, and giving it to that driver.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::errno::Errno;

use crate::model::PciAddress;
use crate::sysfs::{Sysfs, SysfsError};

/// The driver for every function that no variant driver claims.
const GENERIC: &str = "vfio-pci";

/// Why a function could not be given to its VFIO driver.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no such function.
    #[error("PCI function {0} does not exist")]
    Gone(PciAddress),
    /// The driver is not there and could not be loaded.
    #[error("driver {driver} is not registered with the PCI bus")]
    NoDriver {
        /// The driver.
        driver: String,
    },
    /// An attribute refused.
    #[error(transparent)]
    Attribute(#[from] SysfsError),
    /// Every write went well, but another driver, or none, has the function now.
    #[error("PCI function {vf} was offered to driver {driver}, but {} has it", .found.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The function.
        vf: PciAddress,
        /// The wanted driver.
        driver: String,
        /// Who has it.
        found: Option<String>,
    },
}

/// Returns the VFIO driver for the function in `dir`: of the `vfio_pci:` aliases of the running
/// kernel's modules that match it the one with the fewest wildcards, as libvirt chooses
/// (util/virpci.c), else `vfio-pci`. Loads the module when it is not loaded and this is the host itself.
#[must_use]
pub fn choose_driver(sysfs: &Sysfs, dir: &str) -> String {
    let Some(module) = best_module(sysfs, dir) else { return GENERIC.to_owned() };
    if !sysfs.exists(&format!("sys/module/{module}")) {
        load(sysfs, &module);
    }
    driver_of(sysfs, &module)
}

fn best_module(sysfs: &Sysfs, dir: &str) -> Option<String> {
    let modalias = sysfs.read(&format!("{dir}/modalias")).ok()?;
    let wanted = modalias.strip_prefix("pci:")?;
    let release = sysfs.read("proc/sys/kernel/osrelease").ok()?;
    let aliases = File::open(sysfs.path(&format!("lib/modules/{release}/modules.alias"))).ok()?;
    best_alias(BufReader::new(aliases), wanted)
}

/// Finds the module of the best alias. Lines are `alias vfio_pci:v…d… MODULE`.
fn best_alias(lines: impl BufRead, wanted: &str) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in lines.split(b'\n').map_while(Result::ok) {
        let Some(rest) = line.strip_prefix(b"alias vfio_pci:") else { continue };
        let rest = String::from_utf8_lossy(rest);
        let Some((pattern, module)) = rest.split_once(' ') else { continue };
        let wildcards = pattern.matches('*').count();
        let better = best.as_ref().is_none_or(|(least, _)| wildcards < *least);
        if better && matches_pattern(pattern, wanted) {
            best = Some((wildcards, module.trim().to_owned()));
        }
    }
    best.map(|(_, module)| module)
}

/// Matches `*` against any text; alias patterns of PCI ids have no other wildcard.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut open = false;
    for part in parts {
        open = true;
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || (open && pattern.ends_with('*'))
}

/// Returns the name under which a module registers with the PCI bus.
fn driver_of(sysfs: &Sysfs, module: &str) -> String {
    let registered = sysfs.list_optional(&format!("sys/module/{module}/drivers")).unwrap_or_default();
    let named = registered.iter().find_map(|name| name.strip_prefix("pci:"));
    named.map_or_else(|| module.replace('_', "-"), str::to_owned)
}

/// Asks modprobe for a module. Whether it worked shows in the list of drivers.
fn load(sysfs: &Sysfs, module: &str) {
    if !sysfs.is_this_host() {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "only modprobe knows a module's file and what it needs")]
    let mut modprobe = std::process::Command::new("modprobe");
    let status = modprobe.args(["--", module]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    tracing::debug!(module, ?status, "asked modprobe for a VFIO driver");
}

/// Gives the function to `driver` and to nothing else: `driver_override`, `unbind` from the present
/// driver, `drivers_probe`, and a look whether it is so. Calling it twice is harmless. Blocks while
/// the present driver is in use.
///
/// # Errors
/// See [`BindError`]; no variant is worth a retry by itself.
pub fn bind(sysfs: &Sysfs, vf: PciAddress, driver: &str) -> Result<(), BindError> {
    let dir = format!("sys/bus/pci/devices/{vf}");
    if !sysfs.exists(&dir) {
        return Err(BindError::Gone(vf));
    }
    let current = sysfs.link_name(&format!("{dir}/driver"));
    if current.as_deref() == Some(driver) {
        return Ok(());
    }
    if !is_registered(sysfs, driver) {
        load(sysfs, driver);
        if !is_registered(sysfs, driver) {
            return Err(BindError::NoDriver { driver: driver.to_owned() });
        }
    }
    sysfs.write(&format!("{dir}/driver_override"), driver)?;
    if current.is_some() {
        unbind(sysfs, vf, &dir)?;
    }
    sysfs.write("sys/bus/pci/drivers_probe", &vf.to_string())?;
    let found = sysfs.link_name(&format!("{dir}/driver"));
    if found.as_deref() == Some(driver) {
        Ok(())
    } else {
        Err(BindError::NotBound { vf, driver: driver.to_owned(), found })
    }
}

fn is_registered(sysfs: &Sysfs, driver: &str) -> bool {
    sysfs.exists(&format!("sys/bus/pci/drivers/{driver}"))
}

/// Takes the function in `dir` from its driver. ENODEV and ENOENT mean that it has none any more. Blocks while the
/// driver is in use.
///
/// # Errors
/// What the attribute says.
pub fn unbind(sysfs: &Sysfs, vf: PciAddress, dir: &str) -> Result<(), SysfsError> {
    match sysfs.write(&format!("{dir}/driver/unbind"), &vf.to_string()) {
        Err(error) if matches!(error.errno(), Some(Errno::ENODEV | Errno::ENOENT)) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIASES: &str = "\
alias pci:v00008086d*sv*sd*bc*sc*i* other
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000015B3d0000101Esv*sd*bc*sc*i* mlx5_vfio_pci
";

    #[test]
    fn the_alias_with_the_fewest_wildcards_wins() {
        let grace = "v000010DEd00002342sv000010DEsd000016EBbc03sc02i00";
        assert_eq!(best_alias(ALIASES.as_bytes(), grace).as_deref(), Some("nvgrace_gpu_vfio_pci"));
        let igb = "v00008086d000010CAsv00000000sd00000000bc02sc00i00";
        assert_eq!(best_alias(ALIASES.as_bytes(), igb).as_deref(), Some("vfio_pci"));
        assert_eq!(best_alias(&b"\xff\xff\nalias vfio_pci:\n"[..], igb), None);
    }

    #[test]
    fn patterns_match_whole_texts() {
        assert!(matches_pattern("v1d*i00", "v1d22i00"));
        assert!(matches_pattern("a*", "a"));
        assert!(matches_pattern("abc", "abc"));
        assert!(!matches_pattern("abc", "abcd"));
        assert!(!matches_pattern("a*c", "abd"));
        assert!(!matches_pattern("v1d*i00", "v1d22i001"));
    }

    #[test]
    fn without_aliases_the_generic_driver_is_chosen() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(choose_driver(&Sysfs::new(dir.path()), "sys/bus/pci/devices/x"), "vfio-pci");
    }
}
