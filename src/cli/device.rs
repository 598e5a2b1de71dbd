//! `vgpuctl vfs` and `vgpuctl mdev`: devices by hand, without a domain.

use clap::Subcommand;

use crate::cli::report::{Format, Report};
use crate::client::{Client, ClientError, segment};
use crate::model::{DeviceName, MdevTypeId, MdevUuid, PciAddress};
use crate::wire::{Change, Changed, CreateMdev, CreatedMdev, Refusal, SetVfs};

/// Enable virtual functions of a PF
#[derive(Debug, Subcommand)]
pub(super) enum Vfs {
    /// Set how many VFs a PF has
    ///
    /// Refused while any VF of the PF is held by a guest or used by the host, because the kernel
    /// can change the number only through 0. VFs are bound to their VFIO driver as they are made.
    /// The number is remembered.
    Set {
        /// The PF: PCI address or name, as `vgpuctl gpus` prints it
        pf: String,
        /// How many VFs; 0 takes all away
        count: u32,
    },
    /// Forget the remembered number of VFs, and leave the PF to others
    ///
    /// The number no longer comes back after a boot, and whether host drivers take new VFs of the PF is
    /// again what it was before vgpud first changed it. VFs that exist stay as they are.
    Forget {
        /// The PF: PCI address or name, as `vgpuctl gpus` prints it
        #[arg(required_unless_present = "all")]
        pf: Option<String>,
        /// All PFs whose number is remembered
        #[arg(long, conflicts_with = "pf")]
        all: bool,
    },
}

/// Make and remove mediated devices by hand
///
/// Domains do not need this: attach a profile, and the mdev is made when the domain starts. An
/// mdev made here belongs to vgpud until it is removed.
#[derive(Debug, Subcommand)]
pub(super) enum Mdev {
    /// Make a mediated device
    ///
    /// Prints its UUID.
    Create {
        /// The parent device, as `vgpuctl gpus --all` prints it
        parent: String,
        /// The type's id, such as nvidia-558
        #[arg(value_name = "TYPE")]
        mdev_type: MdevTypeId,
        /// Use this UUID instead of a new one
        #[arg(long)]
        uuid: Option<MdevUuid>,
    },
    /// Remove a mediated device
    ///
    /// Refused while a guest holds it, and when vgpud did not make it.
    Remove {
        /// Its UUID
        uuid: MdevUuid,
    },
}

impl Vfs {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let path_of = |pf: &str| format!("/v1/vfs/{}", segment(&full_address(pf)));
        let (changed, done) = match self {
            Self::Set { pf, count } => (client.put(&path_of(&pf), &SetVfs { count }), "VFs set"),
            Self::Forget { pf: Some(pf), .. } => (client.delete(&path_of(&pf)), "forgotten"),
            Self::Forget { pf: None, .. } => (client.delete("/v1/vfs"), "forgotten"),
        };
        let changed: Changed = changed.map_err(ClientError::into_refusal)?;
        Report::new(format, &changed, |changed| sentences(changed, done))
    }
}

impl Mdev {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        match self {
            Self::Create { parent, mdev_type, uuid } => {
                let parent: DeviceName = full_address(&parent).parse().map_err(wrong)?;
                let request = CreateMdev { parent, mdev_type, uuid };
                let made: CreatedMdev =
                    client.post("/v1/mdevs", &request).map_err(ClientError::into_refusal)?;
                Report::new(format, &made, |made| format!("{}\n", made.uuid))
            }
            Self::Remove { uuid } => {
                let path = format!("/v1/mdevs/{}", segment(&uuid.to_string()));
                let changed: Changed = client.delete(&path).map_err(ClientError::into_refusal)?;
                Report::new(format, &changed, |changed| sentences(changed, "mdev removed"))
            }
        }
    }
}

/// Writes a PCI address in full, so that `41:00.0` finds `0000:41:00.0`; any other name as it is.
pub(super) fn full_address(name: &str) -> String {
    name.parse::<PciAddress>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}

fn wrong(error: crate::model::IdError) -> Refusal {
    Refusal::from_error(crate::wire::Kind::Usage, &error)
}

/// Writes what a change did: its notes, or `done` when it has none.
pub(super) fn sentences(changed: &Changed, done: &str) -> String {
    let mut text: String =
        changed.notes.iter().map(|note| format!("{}\n", crate::cli::table::printable(note))).collect();
    match changed.change {
        Change::Unchanged => text.push_str("nothing to change\n"),
        Change::Planned => text.push_str("nothing was changed: dry run\n"),
        Change::Done if text.is_empty() => text = format!("{done}\n"),
        Change::Done => (),
    }
    text
}
