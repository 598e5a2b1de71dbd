//! NVIDIA's library and script, as the engine uses them. Neither is ever required: without the library less is
//! known, without the script there are the VFs that there are.

use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};

use super::Engine;
use crate::backend::sriov_manage;
use crate::ledger::{Intent, IntentId};
use crate::model::{Refusal, Step};
use crate::nvml::{Closed, Nvml};

impl Engine {
    /// Returns the library. Calls of it block for seconds at worst.
    #[must_use]
    pub fn nvml(&self) -> &Nvml {
        &self.inner.nvml
    }

    /// Returns the script that makes NVIDIA's VFs: the configured one, or where packages put it.
    pub(super) fn sriov_manage(&self) -> Option<PathBuf> {
        let configured = self.inner.nvidia.sriov_manage.clone();
        configured.or_else(|| sriov_manage::find(self.inner.paths.root()))
    }

    fn closed(&self) -> MutexGuard<'_, std::collections::BTreeMap<IntentId, Closed>> {
        self.inner.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the library's session for a change that NVIDIA's script makes, and keeps it ended until
    /// [`Engine::reopen_nvml`].
    ///
    /// # Errors
    /// When a call is held up in the library.
    pub(super) fn close_nvml(&self, intent: &Intent) -> Result<(), Refusal> {
        if matches!(intent.step, Step::SetVfs { script: Some(_), .. }) {
            let closed = self.inner.nvml.close()?;
            self.closed().insert(intent.id, closed);
        }
        Ok(())
    }

    /// Ends the session that calls have left behind; it would end by itself a few seconds later.
    pub(super) fn rest_nvml(&self) {
        self.inner
            .nvml
            .rest()
            .unwrap_or_else(|error| tracing::debug!(%error, "a session of NVML stays open"));
    }

    /// Lets the library be used again.
    pub(super) fn reopen_nvml(&self, id: IntentId) {
        drop(self.closed().remove(&id));
    }
}
