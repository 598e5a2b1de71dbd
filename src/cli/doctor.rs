//! `vgpuctl doctor`: what is wrong with this host.

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::printable;
use crate::config::{Config, Paths};
use crate::doctor::{self, Ailment};
use crate::inventory::{ScanOptions, scan};
use crate::model::Severity;
use crate::sysfs::Sysfs;
use crate::wire::{Kind, Refusal};

/// Look for what is wrong with this host
///
/// Firmware, kernel, drivers, libvirt and vgpud's own parts: what was seen, what does not work because of it, and
/// what to type. Needs no service, and changes nothing. Run it as root: some files are closed to others.
///
/// Exit code 1 when an error was found; warnings and notes leave it 0.
#[derive(Debug, Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) fn run(self, paths: &Paths, format: Format) -> Result<Report, Refusal> {
        let config = Config::load(paths).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
        let sysfs = Sysfs::new(paths.root());
        let snapshot = scan(&sysfs, &ScanOptions { include: config.devices.include });
        let found = doctor::judge(&doctor::read(&sysfs, &snapshot));
        let found_errors = found.iter().any(|ailment| ailment.severity == Severity::Error);
        let report = Report::new(format, &serde_json::json!({ "findings": found }), |_| render(&found))?;
        Ok(Report { found_errors, ..report })
    }
}

fn render(found: &[Ailment]) -> String {
    if found.is_empty() {
        return "nothing wrong with this host\n".to_owned();
    }
    found.iter().map(ailment).collect()
}

fn ailment(ailment: &Ailment) -> String {
    let Ailment { severity, check, seen, breaks, cure } = ailment;
    format!(
        "{severity} ({check}): {}\n  breaks: {}\n  cure:   {}\n",
        printable(seen),
        printable(breaks),
        printable(cure)
    )
}
