//! `vgpuctl adopt` and `vgpuctl disown`: what others made becomes ours, and back; promises from aliases.

use clap::{ArgGroup, Args};

use crate::cli::device;
use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError, segment};
use crate::model::{AllocationId, Device, MdevUuid, PciAddress, ProfileName};
use crate::wire::{
    Adopt as Request, AdoptMdev, Adopted, AllocationView, Change, Changed, Disown as DisownRequest, Kind,
    Rebuild, Rebuilt, Refusal,
};

/// Take over what others made
///
/// Makes allocations of the mdevs and VFs that a domain's hostdevs name already, as if they had been
/// attached: the definition gets vgpud's alias and an entry in its metadata, no more. A running guest is
/// not touched; its slices are given back when it stops, and made again, on the GPU that has room, when it
/// starts.
///
///   vgpuctl adopt web1                    by the one profile that fits each hostdev
///   vgpuctl adopt web1 --profile desk     by this one
///   vgpuctl adopt --uuid UUID             an mdev that no domain names, as if made with vgpuctl mdev create
///   vgpuctl adopt --rebuild               after the database was lost: every hostdev with vgpud's alias
///
/// --rebuild reads the aliases in all of libvirt's domains. A damaged database is set aside, never deleted.
/// Where nothing tells which profile an allocation followed, one named recovered-TYPE is made.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group = ArgGroup::new("what").required(true).args(["domain", "uuid", "rebuild"]))]
pub(super) struct Adopt {
    /// The domain's name or UUID
    domain: Option<String>,
    /// The profile that the slices follow from now on; without it, the one that fits
    #[arg(short, long, requires = "domain")]
    profile: Option<ProfileName>,
    /// Only the hostdev of this mdev or VF: its UUID or PCI address
    #[arg(short, long, requires = "domain", value_parser = device_named)]
    device: Option<Device>,
    /// An mdev that no domain names
    #[arg(long)]
    uuid: Option<MdevUuid>,
    /// All hostdevs with vgpud's alias, into a new database where the old one is damaged or lost
    #[arg(long)]
    rebuild: bool,
    /// Say what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Leave a slice to others
///
/// The reverse of adopt: forgets an allocation and takes vgpud's alias out of the definition. The device
/// and a running guest stay as they are; from then on the slice is foreign, and nobody makes it or takes it
/// away but you.
#[derive(Debug, Args)]
pub(super) struct Disown {
    /// The allocation, or the UUID of an mdev
    #[arg(value_name = "ALLOCATION|UUID", value_parser = owned_named)]
    what: Owned,
    /// Say what would happen, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What can be disowned.
#[derive(Clone, Debug)]
enum Owned {
    Allocation(AllocationId),
    Mdev(MdevUuid),
}

fn device_named(text: &str) -> Result<Device, String> {
    let uuid = text.parse::<MdevUuid>().map(Device::Mdev);
    uuid.or_else(|_| text.parse::<PciAddress>().map(Device::Vf))
        .map_err(|_| format!("{text:?} is neither the UUID of an mdev nor a PCI address"))
}

fn owned_named(text: &str) -> Result<Owned, String> {
    let id = text.parse::<AllocationId>().map(Owned::Allocation);
    id.or_else(|_| text.parse::<MdevUuid>().map(Owned::Mdev)).map_err(|_| {
        format!("{text:?} is neither an allocation nor the UUID of an mdev; see vgpuctl allocations")
    })
}

impl Adopt {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let dry_run = self.dry_run;
        match (self.domain, self.uuid, self.rebuild) {
            (Some(domain), None, false) => {
                let request = Request { domain, profile: self.profile, device: self.device, dry_run };
                let answer: Adopted =
                    client.post("/v1/adopt", &request).map_err(ClientError::into_refusal)?;
                Ok(Report::new(format, &answer, adopted)?.notes(format, &answer.notes))
            }
            (None, Some(uuid), false) => {
                let path = format!("/v1/mdevs/{}/adopt", segment(&uuid.to_string()));
                let changed: Changed =
                    client.post(&path, &AdoptMdev { dry_run }).map_err(ClientError::into_refusal)?;
                Report::new(format, &changed, |changed| device::sentences(changed, "adopted"))
            }
            (None, None, true) => {
                let answer: Rebuilt =
                    client.post("/v1/rebuild", &Rebuild { dry_run }).map_err(ClientError::into_refusal)?;
                Ok(Report::new(format, &answer, rebuilt)?.notes(format, &answer.notes))
            }
            _ => Err(Refusal::new(Kind::Usage, "name one of: a domain, --uuid, --rebuild")),
        }
    }
}

impl Disown {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let (allocation, mdev) = match self.what {
            Owned::Allocation(id) => (Some(id), None),
            Owned::Mdev(uuid) => (None, Some(uuid)),
        };
        let request = DisownRequest { allocation, mdev, dry_run: self.dry_run };
        let changed: Changed = client.post("/v1/disown", &request).map_err(ClientError::into_refusal)?;
        Report::new(format, &changed, |changed| device::sentences(changed, "disowned"))
    }
}

fn adopted(answer: &Adopted) -> String {
    table(&answer.allocations) + end(answer.change)
}

fn rebuilt(answer: &Rebuilt) -> String {
    let mut text = String::new();
    if !answer.allocations.is_empty() {
        text.push_str(&table(&answer.allocations));
    }
    if !answer.profiles.is_empty() {
        let mut profiles = Table::new(0, &["NEW PROFILE", "WISH"]);
        for profile in &answer.profiles {
            profiles.row([profile.name.to_string(), profile.wish.to_string()]);
        }
        text.push_str(&format!("\n{}", profiles.render()));
    }
    if !answer.left_out.is_empty() {
        text.push_str("\nleft out:\n");
        answer.left_out.iter().for_each(|line| text.push_str(&format!("  {}\n", printable(line))));
    }
    if let Some(path) = &answer.set_aside {
        text.push_str(&format!("\nthe damaged database is now {}\n", printable(path)));
    }
    let end = match answer.change {
        Change::Done if text.is_empty() => "the database is new; no domain has an alias of vgpud\n",
        change => end(change),
    };
    text + end
}

fn table(allocations: &[AllocationView]) -> String {
    let mut table = Table::new(0, &["ALLOCATION", "DOMAIN", "PROFILE", "DEVICE"]);
    for AllocationView { allocation, .. } in allocations {
        table.row([
            allocation.id.to_string(),
            allocation.domain.name.clone(),
            allocation.profile.to_string(),
            allocation.device.to_string(),
        ]);
    }
    table.render()
}

const fn end(change: Change) -> &'static str {
    match change {
        Change::Done => "",
        Change::Unchanged => "nothing to change\n",
        Change::Planned => "nothing was changed: dry run\n",
    }
}
