//! `vgpuctl attach`, `detach`, `allocations` and `xml`: slices for domains.

use clap::Args;

use crate::cli::report::{Format, Report};
use crate::cli::table::{Table, printable};
use crate::cli::terms::TermsArguments;
use crate::cli::{device, span};
use crate::client::{Client, ClientError};
use crate::clock;
use crate::model::{Allocation, AllocationId, OwnerName, ProfileName};
use crate::wire::{
    Allocate, Allocated, AllocationView, Allocations, Change, Changed, Detach as Request, Refusal,
    SliceStatus, Through,
};

/// Put slices into a domain's definition
///
/// Adds one hostdev a slice to the domain's inactive definition. Nothing is made now: the slice is
/// made when the domain starts, on the GPU that has the most room then, and given back when it
/// stops. With --mode guaranteed it is made now and kept while the domain is off. A running domain
/// gets it at its next start, or with --live at once.
#[derive(Debug, Args)]
pub(super) struct Attach {
    /// The domain's name or UUID
    domain: String,
    /// What the slices should be; see `vgpuctl profile list`
    #[arg(short, long)]
    profile: ProfileName,
    /// How many slices
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    count: u32,
    /// Plug them into the running guest too, now
    #[arg(long)]
    live: bool,
    /// Say what would happen and print the XML, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    terms: TermsArguments,
    /// Who it is for; the configuration can limit what each owner has
    #[arg(long)]
    owner: Option<OwnerName>,
}

/// Take slices out of a domain's definition
///
/// Removes the hostdevs from the domain's inactive definition and gives the allocations up.
/// Without --profile or --allocation: all of them. A running domain keeps its slices until it stops,
/// or with --live until its guest has let go.
#[derive(Debug, Args)]
pub(super) struct Detach {
    /// The domain's name or UUID
    domain: String,
    /// Only the slices of this profile
    #[arg(short, long, conflicts_with = "allocation")]
    profile: Option<ProfileName>,
    /// Only this allocation; see `vgpuctl allocations`
    #[arg(short, long)]
    allocation: Option<AllocationId>,
    /// Unplug them from the running guest too, and wait until it has let go
    #[arg(long)]
    live: bool,
}

/// List what was promised to domains
///
/// The state is the promise: leased (no domain's XML shows it yet), attached, orphaned (the XML no
/// longer shows it; freed when the grace period ends). The slice is what exists now: reserved (the
/// domain is off and nothing is held), ready, in use, unfinished, missing (guaranteed and not there; the
/// next start makes it).
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this domain: name or UUID
    #[arg(short, long)]
    domain: Option<String>,
}

/// Print the hostdev XML of a new slice for virsh attach-device
///
/// Promises a slice to the domain and prints its `<hostdev>`; only XML on stdout.
///
///   vgpuctl xml --profile desk --domain web1 > slice.xml
///   virsh attach-device web1 slice.xml --config
///
/// With --live the slice is made at once, because libvirt runs no hook on hot-plug:
///
///   vgpuctl xml --profile desk --domain web1 --live > slice.xml
///   virsh attach-device web1 slice.xml --live
///
/// If no XML of the domain shows the slice when the lease ends, the promise is taken back.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Xml {
    /// What the slice should be; see `vgpuctl profile list`
    #[arg(short, long)]
    profile: ProfileName,
    /// The domain's name or UUID
    #[arg(short, long)]
    domain: String,
    /// Make the slice at once, for hot-plugging into the running domain
    #[arg(long)]
    live: bool,
    /// How long the promise waits for the domain's XML to show it, such as 90s, 10m or 1h [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = span::seconds)]
    lease: Option<u32>,
    #[command(flatten)]
    terms: TermsArguments,
    /// Who it is for; the configuration can limit what each owner has
    #[arg(long)]
    owner: Option<OwnerName>,
}

impl Attach {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let request = Allocate {
            domain: self.domain,
            profile: self.profile,
            count: self.count,
            through: if self.live { Through::Live } else { Through::Definition },
            lease_s: None,
            dry_run: self.dry_run,
            terms: self.terms.into(),
            owner: self.owner,
        };
        let answer = allocate(client, &request)?;
        Ok(Report::new(format, &answer, attached)?.notes(format, &answer.notes))
    }
}

impl Detach {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let request = Request {
            domain: self.domain,
            allocation: self.allocation,
            profile: self.profile,
            live: self.live,
        };
        let changed: Changed = client.post("/v1/detach", &request).map_err(ClientError::into_refusal)?;
        Report::new(format, &changed, |changed| device::sentences(changed, "detached"))
    }
}

impl List {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let mut answer: Allocations = client.get("/v1/allocations").map_err(ClientError::into_refusal)?;
        if let Some(wanted) = &self.domain {
            answer.allocations.retain(|view| {
                let domain = &view.allocation.domain;
                domain.name == *wanted || domain.uuid.to_string() == wanted.to_ascii_lowercase()
            });
        }
        Report::new(format, &answer, |answer| list(answer, clock::epoch_seconds()))
    }
}

impl Xml {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let request = Allocate {
            domain: self.domain,
            profile: self.profile,
            count: 1,
            through: if self.live { Through::LiveXml } else { Through::Xml },
            lease_s: self.lease,
            dry_run: false,
            terms: self.terms.into(),
            owner: self.owner,
        };
        let answer = allocate(client, &request)?;
        Ok(Report::new(format, &answer, xml)?.notes(format, &answer.notes))
    }
}

fn allocate(client: &Client, request: &Allocate) -> Result<Allocated, Refusal> {
    client.post("/v1/allocations", request).map_err(ClientError::into_refusal)
}

fn attached(answer: &Allocated) -> String {
    let mut table = Table::new(0, &["ALLOCATION", "DOMAIN", "PROFILE", "DEVICE"]);
    for AllocationView { allocation, .. } in &answer.allocations {
        table.row([
            allocation.id.to_string(),
            allocation.domain.name.clone(),
            allocation.profile.to_string(),
            allocation.device.to_string(),
        ]);
    }
    match answer.change {
        Change::Done => table.render(),
        Change::Unchanged => table.render() + "nothing to change\n",
        Change::Planned => table.render() + &xml(answer) + "nothing was changed: dry run\n",
    }
}

fn xml(answer: &Allocated) -> String {
    answer.xml.iter().map(|xml| format!("{}\n", xml.trim_end())).collect()
}

fn list(answer: &Allocations, now: i64) -> String {
    if answer.allocations.is_empty() {
        return "no allocations\n".to_owned();
    }
    let mut table =
        Table::new(0, &["ALLOCATION", "DOMAIN", "PROFILE", "DEVICE", "TERMS", "STATE", "ENDS", "SLICE"]);
    for view in &answer.allocations {
        let allocation = &view.allocation;
        table.row([
            allocation.id.to_string(),
            allocation.domain.name.clone(),
            allocation.profile.to_string(),
            device_of(allocation),
            allocation.terms.to_string(),
            allocation.state.to_string(),
            allocation.until.map(|until| span::until(until, now)).unwrap_or_default(),
            slice(&view.slice),
        ]);
    }
    table.render()
}

/// Writes where slices are, one a line.
pub(super) fn places(views: &[AllocationView]) -> String {
    if views.is_empty() {
        return String::new();
    }
    let mut table = Table::new(0, &["ALLOCATION", "PROFILE", "DEVICE", "SLICE"]);
    for view in views {
        let allocation = &view.allocation;
        table.row([
            allocation.id.to_string(),
            allocation.profile.to_string(),
            device_of(allocation),
            slice(&view.slice),
        ]);
    }
    table.render()
}

/// Names the device, and where vgpud exchanged it, the one before.
fn device_of(allocation: &Allocation) -> String {
    let device = allocation.device;
    match (allocation.pointing.next, allocation.pointing.was) {
        (Some(next), _) => format!("{device} -> {next}"),
        (None, Some(was)) => format!("{device} (was {was})"),
        (None, None) => device.to_string(),
    }
}

fn slice(status: &SliceStatus) -> String {
    match status {
        SliceStatus::Reserved => "reserved".to_owned(),
        SliceStatus::Missing => "missing".to_owned(),
        SliceStatus::Ready { parent } => format!("ready on {parent}"),
        SliceStatus::InUse { parent, holders } => {
            let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
            format!("in use on {parent} by {}", printable(&holders.join(", ")))
        }
        SliceStatus::Unfinished { what } => format!("unfinished: {}", printable(what)),
    }
}
