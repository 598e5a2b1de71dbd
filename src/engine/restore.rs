//! Bringing remembered VF counts back after a boot, each PF for itself, PFs that appear late when they appear.
//!
//! Once in a boot: a count that somebody changes by hand later is theirs, and is shown, not corrected. The
//! way through 0 VFs is never taken here, so nothing that somebody made before us is lost.

use std::sync::PoisonError;

use super::Engine;
use crate::ledger::{Book, VfWish};
use crate::model::{BootId, Gpu, GpuId, HostSnapshot, Kind, Refusal, Sriov};

/// What a remembered count asks for now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    /// Set it.
    Set(VfWish),
    /// Leave it, and tell why.
    Leave(VfWish, String),
}

/// Judges every wish that this boot has not seen yet. Pure.
fn due(book: &Book, boot_id: &BootId, snapshot: &HostSnapshot) -> Vec<Due> {
    let open = book.wishes.values().filter(|wish| wish.boot_id != *boot_id);
    open.map(|wish| {
        let gpu = snapshot.gpus.iter().find(|gpu| gpu.id == wish.gpu);
        match obstacle(wish, gpu) {
            None => Due::Set(wish.clone()),
            Some(text) => Due::Leave(wish.clone(), text),
        }
    })
    .collect()
}

fn obstacle(wish: &VfWish, gpu: Option<&Gpu>) -> Option<String> {
    let Some(gpu) = gpu else { return Some("this device is not here (yet)".to_owned()) };
    let Some(sriov) = &gpu.sriov else { return Some(format!("it makes no VFs now: {}", gpu.backend_reason)) };
    match (sriov.enabled, gpu.driver.is_some()) {
        (_, false) => Some("no driver is bound to it (yet)".to_owned()),
        (0, true) => None,
        (enabled, true) if enabled == wish.count => None,
        (enabled, true) => Some(others(enabled)),
    }
}

fn others(enabled: u32) -> String {
    format!("it has {enabled} VFs already, made by somebody else")
}

impl Engine {
    /// Sets the remembered counts that this boot has not seen yet and that can be set. Blocks for as long
    /// as that takes; calling it again is harmless.
    ///
    /// # Errors
    /// When the host cannot be read.
    pub fn restore(&self) -> Result<(), Refusal> {
        if self.unmet().is_empty() {
            return Ok(());
        }
        let snapshot = self.fresh(std::time::Instant::now() + super::OPERATION)?;
        let due = due(self.ledger().book(), &self.inner.boot_id, &snapshot);
        // Each PF for itself: one whose driver sleeps must not keep the others waiting.
        let left: Vec<(GpuId, u32, String)> = std::thread::scope(|scope| {
            let started: Vec<_> =
                due.into_iter().map(|one| scope.spawn(move || self.restore_one(one))).collect();
            started.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
        });
        let mut notes = self.inner.unrestored.lock().unwrap_or_else(PoisonError::into_inner);
        *notes = left
            .into_iter()
            .map(|(gpu, count, text)| format!("{count} VFs are wanted on {gpu} and not restored: {text}"))
            .collect();
        for note in notes.iter() {
            tracing::warn!(
                note,
                "going on without them; they are set when that changes, or with: vgpuctl vfs set"
            );
        }
        Ok(())
    }

    /// Returns what could not be restored, and why.
    fn restore_one(&self, due: Due) -> Option<(GpuId, u32, String)> {
        let wish = match due {
            Due::Leave(wish, text) => return Some((wish.gpu, wish.count, text)),
            Due::Set(wish) => wish,
        };
        let admits = |sriov: &Sriov| match sriov.enabled {
            0 => Ok(()),
            enabled if enabled == wish.count => Ok(()),
            enabled => Err(Refusal::new(Kind::Conflict, others(enabled))),
        };
        match self.change_vfs(wish.gpu.as_str(), wish.count, admits) {
            Ok(_) => {
                tracing::info!(gpu = %wish.gpu, count = wish.count, "VFs of the last boot are back");
                None
            }
            Err(refusal) => Some((wish.gpu.clone(), wish.count, refusal.message)),
        }
    }

    /// Returns the wishes that this boot has not seen yet.
    #[must_use]
    pub fn unmet(&self) -> Vec<VfWish> {
        let ledger = self.ledger();
        let wishes = ledger.book().wishes.values();
        wishes.filter(|wish| wish.boot_id != self.inner.boot_id).cloned().collect()
    }

    /// Returns why remembered counts were not restored, one sentence each; empties when they are met.
    pub(super) fn unrestored(&self) -> Vec<String> {
        if self.unmet().is_empty() {
            return Vec::new();
        }
        self.inner.unrestored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackendKind;

    fn boot(name: &str) -> BootId {
        name.parse().expect("boot id")
    }

    fn wish(boot_id: &str) -> VfWish {
        VfWish { gpu: "pci:a".parse().expect("id"), count: 4, autoprobe_before: None, boot_id: boot(boot_id) }
    }

    fn book(wish: VfWish) -> Book {
        let mut book = Book::default();
        book.wishes.insert(wish.gpu.clone(), wish);
        book
    }

    fn host(enabled: Option<u32>, driver: Option<&str>) -> HostSnapshot {
        let gpu = Gpu {
            id: "pci:a".parse().expect("id"),
            name: "0000:01:00.0".parse().expect("name"),
            path: String::new(),
            pci: None,
            driver: driver.map(str::to_owned),
            numa_node: None,
            iommu_group: None,
            backend: BackendKind::Sriov,
            backend_reason: "a reason".to_owned(),
            sriov: enabled.map(|enabled| Sriov {
                total: 7,
                enabled,
                vf_id: None,
                autoprobe: None,
                vfs: Vec::new(),
            }),
            parents: Vec::new(),
        };
        HostSnapshot { boot_id: None, gpus: vec![gpu], problems: Vec::new() }
    }

    fn left(book: &Book, host: &HostSnapshot) -> String {
        match due(book, &boot("now"), host).as_slice() {
            [Due::Leave(_, text)] => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_count_of_an_earlier_boot_is_set_where_there_are_no_vfs_yet() {
        let before = book(wish("before"));
        assert_eq!(due(&before, &boot("now"), &host(Some(0), Some("igb"))), [Due::Set(wish("before"))]);
        assert_eq!(
            due(&before, &boot("now"), &host(Some(4), Some("igb"))),
            [Due::Set(wish("before"))],
            "to bind them"
        );
    }

    #[test]
    fn what_this_boot_has_seen_is_never_corrected() {
        assert_eq!(due(&book(wish("now")), &boot("now"), &host(Some(0), Some("igb"))), []);
    }

    #[test]
    fn what_cannot_be_set_is_told() {
        let before = book(wish("before"));
        assert!(left(&before, &host(Some(2), Some("igb"))).contains("2 VFs already"));
        assert!(left(&before, &host(Some(0), None)).contains("no driver"));
        assert!(left(&before, &host(None, Some("igb"))).contains("a reason"));
        let empty = HostSnapshot { boot_id: None, gpus: Vec::new(), problems: Vec::new() };
        assert!(left(&before, &empty).contains("not here"));
    }
}
