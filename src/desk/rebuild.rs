//! What the aliases in libvirt's domains claim, for a ledger that was lost.

use super::{CALL, Desk, ours};
use crate::engine::Claim;
use crate::libvirt::{Definition, Hypervisor, Listed, VirtError};
use crate::model::Refusal;
use crate::wire;

impl Desk {
    /// Makes promises of all aliases of ours in libvirt's domains, and the database anew where it must be.
    ///
    /// # Errors
    /// When libvirt does not answer: without it nothing tells what was promised. Nothing has changed.
    pub fn rebuild(&self, dry_run: bool) -> Result<wire::Rebuilt, Refusal> {
        let read = self.link.call("read all definitions", CALL, |host| claims(host));
        let (claims, unread) = match read {
            Ok(found) => found,
            // Without libvirt there are no domains to ask; what could be read of the database is all there is.
            Err(VirtError::Off) => (Vec::new(), Vec::new()),
            Err(error) => return Err(Refusal::from(&error)),
        };
        let mut rebuilt = self.engine.rebuild(&claims, dry_run)?;
        rebuilt.left_out.extend(unread);
        if !dry_run {
            self.look();
            self.link.poke();
        }
        Ok(rebuilt)
    }
}

/// Reads every hostdev with an alias of ours, and tells which domains cannot be read.
fn claims(host: &mut dyn Hypervisor) -> Result<(Vec<Claim>, Vec<String>), VirtError> {
    let (mut claims, mut unread) = (Vec::new(), Vec::new());
    for Listed { domain, active, .. } in host.list()? {
        let inactive = host.xml(domain.uuid, Definition::Inactive).ok().as_deref().and_then(ours);
        let live = match active {
            true => host.xml(domain.uuid, Definition::Live).ok().as_deref().and_then(ours),
            false => None,
        };
        if inactive.is_none() {
            unread.push(format!(
                "the definition of domain {} cannot be read, so nothing of it is known",
                domain.name
            ));
        }
        let running: Vec<_> = live.iter().flatten().map(|shown| shown.device).collect();
        for shown in inactive.iter().flatten().chain(live.iter().flatten()) {
            let Some(id) = shown.allocation.clone() else { continue };
            let not_live = !running.contains(&shown.device);
            claims.push(Claim { not_live, domain: domain.clone(), id, device: shown.device });
        }
    }
    claims.sort();
    claims.dedup();
    Ok((claims, unread))
}
