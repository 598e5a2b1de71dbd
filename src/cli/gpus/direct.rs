//! Reading the host without the service.

use crate::config::{Config, Paths};
use crate::inventory::{ScanOptions, scan};
use crate::sysfs::Sysfs;
use crate::wire::{Gpus, Kind, Owner, Refusal, slices};

/// Scans the host below the root of `paths`. Owners are unknown: only the service opens the ledger.
pub(super) fn read(paths: &Paths) -> Result<Gpus, Refusal> {
    let config = Config::load(paths).map_err(|error| Refusal::from_error(Kind::Usage, &error))?;
    let options = ScanOptions { include: config.devices.include };
    let snapshot = scan(&Sysfs::new(paths.root()), &options);
    let slices = slices(&snapshot, |_| Owner::Unknown);
    Ok(Gpus { slices, gpus: snapshot.gpus, problems: snapshot.problems, age_ms: 0 })
}
