//! libvirt behind few verbs: list, read, attach and detach, define, edit a definition, start.
//!
//! All calls run on one thread of their own ([`Link`]), each with a deadline for the caller: libvirtd
//! may be waiting for our hook, which waits for the service. Whoever changes the host never waits here.
//! Events say only "look again"; what is so is read from the domain list and the XML.

mod autostart;
mod dir;
#[cfg(feature = "libvirt")]
mod events;
mod link;
#[cfg(feature = "libvirt")]
mod real;

use crate::domain_xml::{Edited, Indexed};
use crate::model::{AllocationId, DomainRef, DomainUuid, Kind, Refusal};

pub use crate::model::{LibvirtVersion as Version, NoVersion};
pub use autostart::autostart;
pub use link::{Event, Link};

/// Why libvirt did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VirtError {
    /// The URI is `none`.
    #[error("libvirt is turned off (URI none)")]
    Off,
    /// This build or URI cannot be used.
    #[error("libvirt URI {uri:?} cannot be used: {reason}")]
    Uri {
        /// The URI.
        uri: String,
        /// Why.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to libvirt at {uri}: {message}")]
    NotConnected {
        /// The URI.
        uri: String,
        /// libvirt's words.
        message: String,
    },
    /// It knows no such domain.
    #[error("libvirt knows no domain {0:?}")]
    NoDomain(String),
    /// It refused.
    #[error("libvirt cannot {act} domain {domain}: {message}")]
    Refused {
        /// What was tried.
        act: &'static str,
        /// On which domain.
        domain: String,
        /// libvirt's words.
        message: String,
    },
    /// The definition is not what an edit of it needs.
    #[error(transparent)]
    Edit(Refusal),
    /// It did not answer in time; what became of the call is not known.
    #[error("libvirt did not answer within {seconds} s when asked to {act}")]
    Deadline {
        /// What was asked.
        act: &'static str,
        /// How long was waited.
        seconds: u64,
    },
}

impl From<&VirtError> for Refusal {
    fn from(error: &VirtError) -> Self {
        let kind = match error {
            VirtError::Edit(refusal) => return refusal.clone(),
            VirtError::NoDomain(_) => Kind::NotFound,
            VirtError::Deadline { .. } => Kind::Busy,
            VirtError::Off
            | VirtError::Uri { .. }
            | VirtError::NotConnected { .. }
            | VirtError::Refused { .. } => Kind::HostFault,
        };
        Self::from_error(kind, error)
    }
}

/// A domain in libvirt's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub domain: DomainRef,
    /// Whether it runs.
    pub active: bool,
    /// Whether it has a definition that outlives its run.
    pub persistent: bool,
}

/// What of a domain's memory is kept, beside the memory of its guest that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// The image of a managed save: the next start resumes it.
    pub managed_save: bool,
    /// A snapshot with memory: a revert resumes it.
    pub memory_snapshot: bool,
}

/// Which of a domain's two definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// What the next start uses.
    Inactive,
    /// What runs now.
    Live,
}

/// What is to become of a definition.
pub type Edit<'a> = &'a mut dyn FnMut(&str) -> Result<Edited, Refusal>;

/// What we want of libvirt. Two implementations: the real one and a directory of XML files.
pub trait Hypervisor {
    /// Returns the daemon's version, where it is known.
    fn version(&self) -> Option<Version>;

    /// Lists all domains, running or not.
    ///
    /// # Errors
    /// When the list cannot be had.
    fn list(&mut self) -> Result<Vec<Listed>, VirtError>;

    /// Reads a definition. Asking for the live one of a domain that does not run is an error.
    ///
    /// # Errors
    /// [`VirtError::NoDomain`] when it is gone.
    fn xml(&mut self, domain: DomainUuid, definition: Definition) -> Result<String, VirtError>;

    /// Says which images of the guest's memory there are.
    ///
    /// # Errors
    /// [`VirtError::NoDomain`] when the domain is gone.
    fn images(&mut self, domain: DomainUuid) -> Result<Images, VirtError>;

    /// Adds a hostdev to the inactive definition.
    ///
    /// # Errors
    /// When libvirt refuses it; the definition is as before.
    fn attach(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError>;

    /// Replaces the inactive definition by what `edit` makes of it; a running guest is not touched. Returns whether
    /// anything changed.
    ///
    /// # Errors
    /// When `edit` or libvirt refuses, or the domain has no definition that outlives its run; all is as before.
    fn redefine(&mut self, domain: DomainUuid, edit: Edit<'_>) -> Result<bool, VirtError>;

    /// Puts the index of allocations into the metadata of the inactive definition, in place of the one it has;
    /// an empty one takes it out. Nothing else of the definition is touched, whoever edits it meanwhile.
    ///
    /// # Errors
    /// When libvirt refuses; the definition is as before.
    fn set_index(&mut self, domain: DomainUuid, indexed: &[Indexed]) -> Result<(), VirtError>;

    /// Plugs a hostdev into the running guest.
    ///
    /// # Errors
    /// When libvirt or the guest refuses it.
    fn plug(&mut self, domain: DomainUuid, hostdev: &str) -> Result<(), VirtError>;

    /// Asks the running guest to let go of a hostdev. Success does not mean that it did.
    ///
    /// # Errors
    /// When libvirt or the guest refuses.
    fn unplug(
        &mut self,
        domain: DomainUuid,
        hostdev: &str,
        allocation: &AllocationId,
    ) -> Result<(), VirtError>;

    /// Reads the inactive definition with its secrets, so that it can be defined again.
    ///
    /// # Errors
    /// [`VirtError::NoDomain`] when it is gone.
    fn secure_xml(&mut self, domain: DomainUuid) -> Result<String, VirtError>;

    /// Replaces the inactive definition of a domain that there is.
    ///
    /// # Errors
    /// When libvirt refuses; the definition is as before.
    fn define(&mut self, domain: DomainUuid, xml: &str) -> Result<(), VirtError>;

    /// Starts the domain; its hook is run meanwhile.
    ///
    /// # Errors
    /// When libvirt, the hook or QEMU refuses.
    fn start(&mut self, domain: DomainUuid) -> Result<(), VirtError>;

    /// Asks the guest to shut down. Success does not mean that it did.
    ///
    /// # Errors
    /// When libvirt or the guest refuses.
    fn shutdown(&mut self, domain: DomainUuid) -> Result<(), VirtError>;

    /// Writes the guest's memory to an image that the next start resumes, and ends its run.
    ///
    /// # Errors
    /// When something blocks it, such as a device whose state cannot be moved: the guest runs on.
    fn save(&mut self, domain: DomainUuid) -> Result<(), VirtError>;

    /// Takes a hostdev out of the inactive definition.
    ///
    /// # Errors
    /// When libvirt refuses; the definition is as before.
    fn detach(&mut self, domain: DomainUuid, hostdev: &str, alias: &str) -> Result<(), VirtError>;
}

/// Finds a domain by name or UUID in a list.
///
/// # Errors
/// [`VirtError::NoDomain`].
pub fn find(list: &[Listed], wanted: &str) -> Result<Listed, VirtError> {
    let uuid = wanted.parse::<DomainUuid>().ok();
    let by_name = list.iter().find(|listed| listed.domain.name == wanted);
    by_name
        .or_else(|| list.iter().find(|listed| Some(listed.domain.uuid) == uuid))
        .cloned()
        .ok_or_else(|| VirtError::NoDomain(wanted.chars().take(80).collect()))
}
