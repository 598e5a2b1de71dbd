//! Mdevs made by an admin's word, without a domain.

use std::time::Instant;

use super::settle::outcome;
use super::work::End;
use super::{Engine, OPERATION, foreign};
use crate::clock;
use crate::inventory::Definitions;
use crate::ledger::{Change, Need};
use crate::model::{Device, Kind, MdevUuid, Refusal, Step};
use crate::wire;

impl Engine {
    /// Makes an mdev on the parent and of the type that the caller names.
    ///
    /// # Errors
    /// When the parent or type is not there, the UUID is taken, or the kernel says no.
    pub fn create_mdev(&self, request: &wire::CreateMdev) -> Result<wire::CreatedMdev, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let _lane = self.capacity_turn(deadline)?;
        let snapshot = self.fresh(deadline)?;
        let Some((gpu, parent)) = snapshot.parents().find(|(_, parent)| parent.name == request.parent) else {
            return Err(Refusal::new(Kind::NotFound, format!("no mdev parent {}", request.parent))
                .hint("vgpuctl gpus lists the parents"));
        };
        if !parent.types.iter().any(|one| one.id == request.mdev_type) {
            let names: Vec<&str> = parent.types.iter().map(|one| one.id.as_str()).take(24).collect();
            return Err(Refusal::new(
                Kind::NotFound,
                format!("{} offers no type {}", parent.name, request.mdev_type),
            )
            .hint(format!("it offers: {}", names.join(", "))));
        }
        let uuid = request.uuid.unwrap_or_else(|| MdevUuid(uuid::Uuid::new_v4()));
        if snapshot.mdev(uuid).is_some() || self.ledger().book().naming(Device::Mdev(uuid)).is_some() {
            return Err(Refusal::new(Kind::Conflict, format!("mdev {uuid} exists already or is promised")));
        }
        let step =
            Step::CreateMdev { parent: parent.name.clone(), mdev_type: request.mdev_type.clone(), uuid };
        let intent = self.intent(step, None, gpu.id.clone(), clock::boottime());
        self.commit(vec![Change::OpenIntent(intent.clone())], Need::Promise)?;
        match self.in_thread(&intent, deadline.min(Instant::now() + super::round::CREATE)) {
            End::Done => {
                let Ok(snapshot) = self.fresh(Instant::now() + OPERATION) else {
                    self.overrun(&intent, || ());
                    return Ok(wire::CreatedMdev { uuid });
                };
                let mut changes = outcome(&intent, self.ledger().book(), &snapshot);
                changes.push(Change::CloseIntent(intent.id));
                self.defer(changes);
                Ok(wire::CreatedMdev { uuid })
            }
            End::Failed(failure) => {
                self.defer(vec![Change::CloseIntent(intent.id)]);
                Err(failure.refusal)
            }
            End::Overrun => Err(Refusal::new(Kind::Busy, format!("{} has not ended in time", intent.step))),
        }
    }

    /// Removes an mdev that was made by [`Engine::create_mdev`].
    ///
    /// # Errors
    /// When it is a domain's, foreign, held, or not there.
    pub fn remove_mdev(&self, uuid: MdevUuid) -> Result<wire::Changed, Refusal> {
        let deadline = Instant::now() + OPERATION;
        let snapshot = self.fresh(deadline)?;
        let found = snapshot.mdev(uuid);
        let gpu = {
            let ledger = self.ledger();
            let book = ledger.book();
            if let Some(allocation) = book.naming(Device::Mdev(uuid)) {
                return Err(Refusal::new(
                    Kind::Conflict,
                    format!("mdev {uuid} belongs to domain {}", allocation.domain.name),
                )
                .hint(format!("vgpuctl detach {} --allocation {}", allocation.domain.name, allocation.id)));
            }
            match (book.handmade.contains_key(&uuid), found) {
                (true, Some((gpu, ..))) => gpu.id.clone(),
                (true, None) => {
                    drop(ledger);
                    self.commit(vec![Change::DeleteHandmade(uuid)], Need::GiveBack)?;
                    return Ok(wire::Changed {
                        change: wire::Change::Unchanged,
                        notes: vec!["it was gone already".to_owned()],
                    });
                }
                (false, Some((_, parent, _))) => {
                    let maker = foreign::maker(&Definitions::read(&self.inner.sysfs), &parent.name, uuid);
                    let by = maker.map(|maker| format!(" ({maker})")).unwrap_or_default();
                    return Err(Refusal::new(
                        Kind::Conflict,
                        format!("mdev {uuid} on {} was not made by vgpud{by} and is left alone", parent.name),
                    )
                    .hint(format!("vgpuctl adopt --uuid {uuid} makes it vgpud's")));
                }
                (false, None) => return Err(Refusal::new(Kind::NotFound, format!("no mdev {uuid}"))),
            }
        };
        let armed = self.arm(self.intent(Step::RemoveMdev { uuid }, None, gpu, clock::boottime()))?;
        let announced = self.announce(vec![armed], Need::GiveBack)?;
        for (intent, end) in self.let_go(announced, deadline.min(Instant::now() + super::give_back::REMOVAL))
        {
            match end {
                End::Done => self.defer(vec![Change::DeleteHandmade(uuid), Change::CloseIntent(intent.id)]),
                End::Failed(failure) => {
                    self.defer(vec![Change::CloseIntent(intent.id)]);
                    return Err(failure.refusal);
                }
                End::Overrun => {
                    return Err(Refusal::new(Kind::Busy, format!("{} has not ended yet", intent.step))
                        .hint("it ends when whoever holds the device lets go; vgpuctl status shows it"));
                }
            }
        }
        Ok(wire::Changed { change: wire::Change::Done, notes: Vec::new() })
    }
}
