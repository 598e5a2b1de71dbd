//! The terms of a promise as arguments, and `vgpuctl allocation`, which changes them.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::cli::device;
use crate::cli::report::{Format, Report};
use crate::client::{Client, ClientError};
use crate::model::{CapacityMode, Repoint, Siblings, Terms};
use crate::wire::{Changed, Refusal, SetTerms};

/// Change the terms of promises without detaching
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Change what is held while the domain is off, and where it may start
    ///
    /// What is not said stays. A slice that becomes guaranteed is made at once when the domain is off;
    /// one that is no longer guaranteed is given back, or when the domain runs, as soon as it stops.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Set {
        /// An allocation's id; or a domain's name or UUID: all of its allocations
        which: String,
        /// What is held while the domain is off: nothing, or the slice itself
        #[arg(long, value_parser = modes(), group = "what")]
        mode: Option<CapacityMode>,
        /// Start only on the GPU of the last start
        #[arg(long, group = "what")]
        pin: bool,
        /// Start on any GPU
        #[arg(long, group = "what", conflicts_with = "pin")]
        no_pin: bool,
        /// When the VF that a stopped domain names may be exchanged for one that can be had
        #[arg(long, value_parser = repoints(), group = "what")]
        repoint: Option<Repoint>,
        /// Where the domain's other slices shall be: anywhere, on the same GPU, each on its own
        #[arg(long, value_parser = siblings(), group = "what")]
        siblings: Option<Siblings>,
    },
    /// Forget which type and GPU the first start settled
    ///
    /// The next start settles them anew, by the profile as it is then. A guest may find another kind of
    /// device than its drivers, licence or hibernation expect. Refused while the domain runs.
    Unsettle {
        /// An allocation's id; or a domain's name or UUID: all of its allocations
        which: String,
    },
}

impl Command {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let nothing =
            |which| SetTerms { which, mode: None, pin: None, repoint: None, siblings: None, unsettle: false };
        let request = match self {
            Self::Unsettle { which } => SetTerms { unsettle: true, ..nothing(which) },
            Self::Set { which, mode, pin, no_pin, repoint, siblings } => {
                let pin = (pin || no_pin).then_some(pin);
                SetTerms { mode, pin, repoint, siblings, ..nothing(which) }
            }
        };
        let changed: Changed = client.post("/v1/terms", &request).map_err(ClientError::into_refusal)?;
        Report::new(format, &changed, |changed| device::sentences(changed, "changed"))
    }
}

/// On what terms slices are promised.
#[derive(Debug, Args)]
pub(super) struct TermsArguments {
    /// What is held while the domain is off: nothing, or the slice itself, made now on a fixed parent
    #[arg(long, value_parser = modes(), default_value_t = CapacityMode::default())]
    mode: CapacityMode,
    /// Start always on the GPU of the first start
    #[arg(long)]
    pin: bool,
    /// When the VF that a stopped domain names may be exchanged for one that can be had
    #[arg(long, value_parser = repoints(), default_value_t = Repoint::default())]
    repoint: Repoint,
    /// All slices of the domain on one GPU
    #[arg(long, conflicts_with = "apart")]
    together: bool,
    /// Each slice of the domain on a GPU of its own
    #[arg(long)]
    apart: bool,
}

impl From<TermsArguments> for Terms {
    fn from(TermsArguments { mode, pin, repoint, together, apart }: TermsArguments) -> Self {
        let siblings = match (together, apart) {
            (true, _) => Siblings::Together,
            (false, true) => Siblings::Apart,
            (false, false) => Siblings::Any,
        };
        Self { mode, pin, repoint, siblings }
    }
}

fn siblings() -> impl TypedValueParser<Value = Siblings> {
    PossibleValuesParser::new(["any", "together", "apart"]).map(|name| match name.as_str() {
        "together" => Siblings::Together,
        "apart" => Siblings::Apart,
        _ => Siblings::Any,
    })
}

fn modes() -> impl TypedValueParser<Value = CapacityMode> {
    PossibleValuesParser::new(["on-start", "guaranteed"]).map(|name| match name.as_str() {
        "guaranteed" => CapacityMode::Guaranteed,
        _ => CapacityMode::OnStart,
    })
}

fn repoints() -> impl TypedValueParser<Value = Repoint> {
    PossibleValuesParser::new(["auto", "on-refusal", "never"]).map(|name| match name.as_str() {
        "on-refusal" => Repoint::OnRefusal,
        "never" => Repoint::Never,
        _ => Repoint::Auto,
    })
}
