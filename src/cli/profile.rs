//! `vgpuctl profile`: name what domains may ask for.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};

use crate::cli::device;
use crate::cli::edit::Edit;
use crate::cli::report::{Format, Report};
use crate::cli::rules::{self, RulesArguments};
use crate::cli::table::{Table, facts};
use crate::client::{Client, ClientError, segment};
use crate::model::{
    AllocationId, Float, Framebuffer, PciId, PluginParameters, Policy, Profile, ProfileName, Rules, Weight,
    WhichGpu, Wish,
};
use crate::profile;
use crate::wire::{Changed, Explanation, Kind, ProfileUse, Profiles, Refusal};

/// Name what domains may ask for
///
/// A profile is a wish with a name, neutral of the vendor where it can be. Which GPU serves it is
/// decided when the domain starts.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Create(Box<Create>),
    Edit(Box<Edit>),
    /// List the profiles
    List,
    /// Show one profile
    Show {
        /// Its name
        name: ProfileName,
    },
    /// Delete a profile
    ///
    /// Refused while allocations follow it; `vgpuctl allocations` lists them.
    Delete {
        /// Its name
        name: ProfileName,
    },
    /// Show which parents can serve a profile now
    ///
    /// One line for each parent device, the best first: how many slices it could make now and what the
    /// profile's policy makes of it, or why it makes none. Rules come before the policy: parents of a
    /// lesser tier are tried first. Types of one parent share its memory, so the numbers of different
    /// profiles do not add up.
    Explain {
        /// Its name
        name: ProfileName,
        /// For this allocation, within what its first start settled and where it is pinned
        #[arg(short, long)]
        allocation: Option<AllocationId>,
    },
}

/// Make a profile, or change one
///
/// Say exactly one of --type, --framebuffer, --vf and --file. Allocations of a changed profile
/// follow it at their domain's next start.
///
/// A profile file is TOML with the same names:
///
///   framebuffer = "4GiB"     # or: type = "nvidia-558"     or: vf = "8086:10ca"
///   class = "graphics"
///   policy = "pack"          # as vgpud.toml says, unless said here; see docs/policies.md
///   order = ["0000:41:00.0"] # for the policy priority
///   separate = ["ai"]        # classes that it shares no GPU with
///   overflow = false         # unless all others are full
///   priority = 10
///   numa = "prefer"
///   float = "parent"         # what may differ from one start to the next
///   weight = 20              # turns on the GPU beside other slices, 1 to 100
///   parameters = "frame_rate_limiter=0" # what NVIDIA's driver is told of each vGPU
///   display = false
///   ramfb = false
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Create {
    /// Its name: letters, digits, '.', '_' and '-'
    name: ProfileName,
    #[command(flatten)]
    wish: WishArguments,
    /// A label for the kind of work, such as graphics
    #[arg(long, conflicts_with = "file")]
    class: Option<ProfileName>,
    /// How the parent is chosen
    #[arg(long, conflicts_with = "file", value_parser = policies(), default_value_t = Policy::default())]
    policy: Policy,
    /// What may differ from one start to the next: the parent only, the type too, the vendor too
    #[arg(long, conflicts_with = "file", value_parser = floats(), default_value_t = Float::default())]
    float: Float,
    /// Give the guest a display on the slice; needs a graphics device in the domain
    #[arg(long, conflicts_with = "file")]
    display: bool,
    /// Show the firmware's screen on that display too
    #[arg(long, conflicts_with = "file", requires = "display")]
    ramfb: bool,
    /// Only GPUs below one PCIe switch for one domain, told to NVIDIA's driver in the guest as peers (GPUDirect P2P)
    #[arg(long, requires = "gpu", conflicts_with = "file")]
    peers: bool,
    /// How long its turns on the GPU are beside other slices: 1 to 100, twice the number is twice as long
    ///
    /// Intel's xe gives a VF 2 ms for each unit. Other GPUs cannot weigh one slice; `profile explain` says which can.
    /// Give a weight to every profile that shares such a GPU: a slice without one has turns without a limit.
    #[arg(long, conflicts_with = "file", value_name = "N")]
    weight: Option<Weight>,
    /// What NVIDIA's driver is told of each vGPU, such as frame_rate_limiter=0,disable_vnc=1
    ///
    /// Written into nvidia/vgpu_params of the slice before its guest starts. The names are the driver's: frame_rate_limiter,
    /// disable_vnc, enable_uvm, enable_debugging, enable_profiling and others. Slices of other vendors have none.
    #[arg(long, conflicts_with = "file", value_name = "LIST")]
    parameters: Option<PluginParameters>,
    #[command(flatten)]
    rules: RulesArguments,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WishArguments {
    /// Exactly this mdev type: its id or the driver's name for it
    #[arg(long = "type", value_name = "TYPE")]
    mdev_type: Option<String>,
    /// The smallest type with at least this framebuffer, on any vendor's GPU, such as 4GiB
    #[arg(long, value_name = "SIZE")]
    framebuffer: Option<Framebuffer>,
    /// A virtual function with this PCI id, such as 8086:10ca
    #[arg(long, value_name = "ID")]
    vf: Option<PciId>,
    /// A whole GPU with its audio function: any, or one with this PCI id, such as 10de:2684
    #[arg(long, value_name = "any|ID")]
    gpu: Option<WhichGpu>,
    /// Read the profile from a file; - is stdin
    #[arg(long)]
    file: Option<PathBuf>,
}

impl Command {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        match self {
            Self::Create(create) => create.run(client, format),
            Self::Edit(edit) => edit.run(client, format),
            Self::List => Report::new(format, &all(client)?, list),
            Self::Show { name } => Report::new(format, &one(client, &name)?, show),
            Self::Delete { name } => {
                let path = format!("/v1/profiles/{}", segment(name.as_str()));
                let changed: Changed = client.delete(&path).map_err(ClientError::into_refusal)?;
                Report::new(format, &changed, |changed| {
                    device::sentences(changed, &format!("profile {name} deleted"))
                })
            }
            Self::Explain { name, allocation } => {
                let query = allocation.map(|id| format!("?allocation={id}")).unwrap_or_default();
                let path = format!("/v1/profiles/{}/explain{query}", segment(name.as_str()));
                let answer: Explanation = client.get(&path).map_err(ClientError::into_refusal)?;
                Report::new(format, &answer, explain)
            }
        }
    }
}

impl Create {
    fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let profile = self.profile()?;
        let path = format!("/v1/profiles/{}", segment(profile.name.as_str()));
        let changed: Changed = client.put(&path, &profile).map_err(ClientError::into_refusal)?;
        Report::new(format, &changed, |changed| {
            device::sentences(changed, &format!("profile {}: {}", profile.name, profile.wish))
        })
    }

    fn profile(self) -> Result<Profile, Refusal> {
        let refuse = |error: profile::ProfileError| Refusal::from_error(error.kind(), &error);
        let wish = match self.wish {
            WishArguments { file: Some(file), .. } => {
                return profile::parse(self.name, &read(&file)?).map_err(refuse);
            }
            WishArguments { mdev_type: Some(mdev_type), .. } => Wish::Type(mdev_type),
            WishArguments { framebuffer: Some(size), .. } => Wish::Framebuffer(size),
            WishArguments { vf: Some(id), .. } => Wish::Vf(id),
            WishArguments { gpu: Some(which), .. } => Wish::Gpu(which),
            WishArguments { .. } => {
                return Err(Refusal::new(
                    Kind::Usage,
                    "say one of --type, --framebuffer, --vf, --gpu and --file",
                ));
            }
        };
        let Self { name, class, policy, float, display, ramfb, peers, weight, parameters, rules, .. } = self;
        let rules = rules.apply(&Rules::default());
        let profile = Profile {
            class,
            policy,
            float,
            display,
            ramfb,
            peers,
            weight,
            parameters,
            rules,
            ..Profile::new(name, wish)
        };
        profile::validate(&profile).map_err(refuse)?;
        Ok(profile)
    }
}

pub(super) fn floats() -> impl clap::builder::TypedValueParser<Value = Float> {
    PossibleValuesParser::new(["parent", "type", "vendor"]).map(|name| match name.as_str() {
        "type" => Float::Type,
        "vendor" => Float::Vendor,
        _ => Float::Parent,
    })
}

pub(super) fn policies() -> impl clap::builder::TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::NAMES).try_map(|name| name.parse::<Policy>())
}

/// Reads a profile file, or stdin for `-`; not more of it than a profile file may have.
pub(super) fn read(file: &Path) -> Result<String, Refusal> {
    let most = u64::try_from(profile::MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let outcome = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes))
    };
    let wrong = |why: String| {
        Refusal::new(Kind::Usage, format!("cannot read profile file {}: {why}", file.display()))
    };
    outcome.map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))
}

fn all(client: &Client) -> Result<Profiles, Refusal> {
    client.get("/v1/profiles").map_err(ClientError::into_refusal)
}

fn one(client: &Client, name: &ProfileName) -> Result<ProfileUse, Refusal> {
    let profiles = all(client)?.profiles;
    let names: Vec<String> = profiles.iter().map(|used| used.profile.name.to_string()).collect();
    let found = profiles.into_iter().find(|used| used.profile.name == *name);
    found.ok_or_else(|| {
        let refusal = Refusal::new(Kind::NotFound, format!("there is no profile {name}"));
        if names.is_empty() { refusal } else { refusal.hint(format!("there are: {}", names.join(", "))) }
    })
}

fn list(answer: &Profiles) -> String {
    if answer.profiles.is_empty() {
        return "no profiles; make one with: vgpuctl profile create NAME --framebuffer 4GiB\n".to_owned();
    }
    let mut table = Table::new(0, &["NAME", "WISH", "CLASS", "POLICY", "FLOAT", "DISPLAY", ">ALLOCATIONS"]);
    for ProfileUse { profile, allocations } in &answer.profiles {
        table.row([
            profile.name.to_string(),
            profile.wish.to_string(),
            class(profile),
            profile.policy.to_string(),
            profile.float.to_string(),
            display(profile),
            allocations.to_string(),
        ]);
    }
    table.render()
}

fn show(used: &ProfileUse) -> String {
    let profile = &used.profile;
    let mut lines = vec![
        ("name", profile.name.to_string()),
        ("wish", profile.wish.to_string()),
        ("class", class(profile)),
        ("policy", profile.policy.to_string()),
        ("float", profile.float.to_string()),
        ("display", display(profile)),
    ];
    lines.extend(profile.peers.then(|| ("peers", "yes: below one switch".to_owned())));
    lines.extend(profile.weight.map(|weight| ("weight", weight.to_string())));
    lines.extend(profile.parameters.iter().map(|parameters| ("parameters", parameters.to_string())));
    lines.extend(rules::told(profile));
    lines.push(("allocations", used.allocations.to_string()));
    facts(&lines)
}

fn class(profile: &Profile) -> String {
    profile.class.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn display(profile: &Profile) -> String {
    match (profile.display, profile.ramfb) {
        (true, true) => "on, with ramfb".to_owned(),
        (true, false) => "on".to_owned(),
        (false, _) => "off".to_owned(),
    }
}

fn explain(answer: &Explanation) -> String {
    let profile = &answer.profile;
    let mut text = format!("profile {}: {}, policy {}\n", profile.name, profile.wish, answer.policy);
    for bound in answer.bounds.iter().chain(&answer.notes) {
        text.push_str(&format!("{}\n", crate::cli::table::printable(bound)));
    }
    if answer.candidates.is_empty() {
        text.push_str("no parent on this host; see: vgpuctl gpus\n");
        return text;
    }
    let mut table = Table::new(0, &["PARENT", "GPU", "TYPE", ">POSSIBLE", ">TIER", "SCORE", "WHY NONE"]);
    for candidate in &answer.candidates {
        table.row([
            candidate.parent.to_string(),
            candidate.gpu.to_string(),
            candidate.mdev_type.as_ref().map(ToString::to_string).unwrap_or_default(),
            candidate.possible.to_string(),
            candidate.score.as_ref().map(|score| score.tier.to_string()).unwrap_or_default(),
            candidate.score.as_ref().map(|score| score.text.clone()).unwrap_or_default(),
            candidate.reason.clone().unwrap_or_default(),
        ]);
    }
    text + &table.render()
}
