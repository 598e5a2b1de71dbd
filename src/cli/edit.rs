//! `vgpuctl profile edit`: a profile changed by options, by a file or in the admin's editor, and who is affected.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::profile::{floats, policies, read};
use crate::cli::report::{Format, Report};
use crate::cli::rules::{RulesArguments, Switch};
use crate::cli::table::{Table, printable};
use crate::client::{Client, ClientError, segment};
use crate::model::{
    Float, Framebuffer, PciId, PluginParameters, Policy, Profile, ProfileName, Weight, WhichGpu, Wish,
};
use crate::profile;
use crate::wire::{Affected, Change, EditProfile, Edited, Kind, Refusal};

/// Change a profile, and see who is affected
///
/// Changes what the options say and leaves the rest. Without any option, on a terminal, the profile
/// is opened in $VISUAL, $EDITOR or vi as the file that `profile create --file` takes.
///
/// Allocations follow a changed profile at their domain's next start; what their first start settled
/// stays, unless --float lets it change. A guaranteed slice is made anew at once when its domain is
/// off, else when it stops.
#[derive(Debug, Args)]
pub(super) struct Edit {
    /// Its name
    name: ProfileName,
    #[command(flatten)]
    changes: Changes,
    /// Say who would be affected, change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Default, Args)]
struct Changes {
    /// Exactly this mdev type: its id or the driver's name for it
    #[arg(long = "type", value_name = "TYPE", group = "wish")]
    mdev_type: Option<String>,
    /// The smallest type with at least this framebuffer, such as 4GiB
    #[arg(long, value_name = "SIZE", group = "wish")]
    framebuffer: Option<Framebuffer>,
    /// A virtual function with this PCI id, such as 8086:10ca
    #[arg(long, value_name = "ID", group = "wish")]
    vf: Option<PciId>,
    /// A whole GPU: any, or one with this PCI id, such as 10de:2684
    #[arg(long, value_name = "any|ID", group = "wish")]
    gpu: Option<WhichGpu>,
    /// Read the whole profile from a file; - is stdin
    #[arg(long, conflicts_with_all = ["wish", "class", "no_class", "policy", "float", "display", "ramfb", "peers", "weight", "no_weight", "parameters", "no_parameters"])]
    file: Option<PathBuf>,
    /// A label for the kind of work, such as graphics
    #[arg(long, conflicts_with = "no_class")]
    class: Option<ProfileName>,
    /// No such label
    #[arg(long)]
    no_class: bool,
    /// How the parent is chosen
    #[arg(long, value_parser = policies())]
    policy: Option<Policy>,
    /// What may differ from one start to the next
    #[arg(long, value_parser = floats())]
    float: Option<Float>,
    /// Give the guest a display on the slice
    #[arg(long, value_enum)]
    display: Option<Switch>,
    /// Show the firmware's screen on that display too
    #[arg(long, value_enum)]
    ramfb: Option<Switch>,
    /// Tell whole GPUs of one domain to its guest's driver as peers
    #[arg(long, value_enum)]
    peers: Option<Switch>,
    /// How long its turns on the GPU are beside other slices: 1 to 100
    #[arg(long, value_name = "N", conflicts_with = "no_weight")]
    weight: Option<Weight>,
    /// Turns as the GPU gives them by itself
    #[arg(long)]
    no_weight: bool,
    /// What NVIDIA's driver is told of each vGPU, such as frame_rate_limiter=0,disable_vnc=1
    #[arg(long, value_name = "LIST", conflicts_with = "no_parameters")]
    parameters: Option<PluginParameters>,
    /// Nothing of that kind
    #[arg(long)]
    no_parameters: bool,
    #[command(flatten)]
    rules: RulesArguments,
}

impl Changes {
    fn wish(&self) -> Option<Wish> {
        let named = self.mdev_type.clone().map(Wish::Type);
        named
            .or(self.framebuffer.map(Wish::Framebuffer))
            .or(self.vf.map(Wish::Vf))
            .or(self.gpu.map(Wish::Gpu))
    }

    fn is_empty(&self) -> bool {
        self.wish().is_none()
            && self.file.is_none()
            && self.class.is_none()
            && !self.no_class
            && self.policy.is_none()
            && self.float.is_none()
            && self.display.is_none()
            && self.ramfb.is_none()
            && self.peers.is_none()
            && self.weight.is_none()
            && !self.no_weight
            && self.parameters.is_none()
            && !self.no_parameters
            && self.rules.is_empty()
    }

    fn apply(&self, was: &Profile) -> Profile {
        let class = if self.no_class { None } else { self.class.clone().or_else(|| was.class.clone()) };
        let weight = if self.no_weight { None } else { self.weight.or(was.weight) };
        let parameters = if self.no_parameters {
            None
        } else {
            self.parameters.clone().or_else(|| was.parameters.clone())
        };
        let on = |switch: Option<Switch>, before| switch.map_or(before, |switch| switch == Switch::On);
        Profile {
            name: was.name.clone(),
            wish: self.wish().unwrap_or_else(|| was.wish.clone()),
            class,
            policy: self.policy.unwrap_or(was.policy),
            float: self.float.unwrap_or(was.float),
            display: on(self.display, was.display),
            ramfb: on(self.ramfb, was.ramfb),
            peers: on(self.peers, was.peers),
            weight,
            parameters,
            rules: self.rules.apply(&was.rules),
        }
    }
}

impl Edit {
    pub(super) fn run(self, client: &Client, format: Format) -> Result<Report, Refusal> {
        let path = format!("/v1/profiles/{}", segment(self.name.as_str()));
        let was: Profile = client.get(&path).map_err(ClientError::into_refusal)?;
        let refuse = |error: profile::ProfileError| Refusal::from_error(error.kind(), &error);
        let mut text = None;
        let wanted = if let Some(file) = &self.changes.file {
            profile::parse(self.name, &read(file)?).map_err(refuse)?
        } else if self.changes.is_empty() {
            let file = text.insert(EditedFile::ask(&was)?);
            profile::parse(self.name, &read(&file.0)?).map_err(|error| file.keep(refuse(error)))?
        } else {
            self.changes.apply(&was)
        };
        profile::validate(&wanted).map_err(refuse)?;
        let request = EditProfile { was, wanted, dry_run: self.dry_run };
        let answer = client.post(&format!("{path}/edit"), &request).map_err(ClientError::into_refusal);
        let answer: Edited = match (answer, &text) {
            (Err(refusal), Some(file)) => return Err(file.keep(refusal)),
            (answer, _) => answer?,
        };
        if let Some(file) = text {
            file.discard();
        }
        Ok(Report::new(format, &answer, |answer| affected(answer, &request.wanted))?
            .notes(format, &answer.notes))
    }
}

/// The profile's text while the admin edits it.
#[derive(Debug)]
struct EditedFile(PathBuf);

impl EditedFile {
    /// Opens the admin's editor and waits for its end.
    fn ask(was: &Profile) -> Result<Self, Refusal> {
        if !std::io::stdin().is_terminal() {
            return Err(Refusal::new(Kind::Usage, "say what to change, such as --type or --float")
                .hint("on a terminal, vgpuctl profile edit NAME opens an editor"));
        }
        let name = format!("vgpuctl-{}-{}.toml", was.name, uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        let fault = |what: &str, error: std::io::Error| {
            Refusal::new(Kind::HostFault, format!("cannot {what} {}: {error}", path.display()))
        };
        let made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|mut file| file.write_all(profile::print(was).as_bytes()))
            .map_err(|error| fault("write", error))?;
        let ended = editor(&path).status();
        let file = Self(path.clone());
        match ended {
            Ok(status) if status.success() => Ok(file),
            Ok(status) => {
                file.discard();
                Err(Refusal::new(Kind::Usage, format!("the editor ended with {status}; nothing was changed")))
            }
            Err(error) => Err(fault("open an editor on", error)),
        }
    }

    /// What was typed is not lost with a refusal.
    fn keep(&self, refusal: Refusal) -> Refusal {
        let path = self.0.display();
        refusal.hint(format!(
            "nothing was changed; your text is in {path}: vgpuctl profile edit NAME --file {path}"
        ))
    }

    fn discard(self) {
        // A file left in the directory for temporary files does no harm.
        drop(std::fs::remove_file(self.0));
    }
}

#[expect(clippy::disallowed_methods, reason = "the admin's own editor, in the admin's own process")]
fn editor(path: &Path) -> std::process::Command {
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", r#"${VISUAL:-${EDITOR:-vi}} "$1""#, "vgpuctl"]).arg(path);
    shell
}

fn affected(answer: &Edited, wanted: &Profile) -> String {
    let mut text = String::new();
    if !answer.affected.is_empty() {
        let mut table = Table::new(0, &["ALLOCATION", "DOMAIN", "NOW", "WHAT CHANGES"]);
        for Affected { allocation, domain, running, effects } in &answer.affected {
            let now = match running {
                Some(true) => "running",
                Some(false) => "off",
                None => "unknown",
            };
            let effects = if effects.is_empty() { "nothing".to_owned() } else { effects.join("; ") };
            table.row([
                allocation.to_string(),
                domain.clone(),
                now.to_owned(),
                printable(&effects).into_owned(),
            ]);
        }
        text = table.render();
    }
    text + &match answer.change {
        Change::Done => format!("profile {}: {}\n", wanted.name, wanted.wish),
        Change::Unchanged => "nothing to change\n".to_owned(),
        Change::Planned => "nothing was changed: dry run\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let wish = Wish::Framebuffer(Framebuffer::from_mib(4096));
        Profile {
            class: Some("graphics".parse().expect("name")),
            display: true,
            ..Profile::new("desk".parse().expect("name"), wish)
        }
    }

    #[test]
    fn options_change_what_they_name_and_leave_the_rest() {
        assert_eq!(Changes::default().apply(&profile()), profile());
        assert!(Changes::default().is_empty());
        let changes = Changes { float: Some(Float::Type), no_class: true, ..Changes::default() };
        assert!(!changes.is_empty());
        assert_eq!(changes.apply(&profile()), Profile { float: Float::Type, class: None, ..profile() });
        let weight = Changes { weight: "20".parse().ok(), ..Changes::default() };
        let weighed = weight.apply(&profile());
        assert_eq!(weighed.weight.map(Weight::get), Some(20));
        assert_eq!(
            Changes { float: Some(Float::Type), ..Changes::default() }.apply(&weighed).weight,
            weighed.weight
        );
        let uvm = Changes { parameters: "enable_uvm=1".parse().ok(), ..Changes::default() }.apply(&profile());
        assert_eq!(uvm.parameters.as_ref().map(PluginParameters::as_str), Some("enable_uvm=1"));
        assert_eq!(Changes { no_parameters: true, ..Changes::default() }.apply(&uvm), profile());
        assert_eq!(Changes { no_weight: true, ..Changes::default() }.apply(&weighed), profile());
        let off = Changes { display: Some(Switch::Off), ..Changes::default() };
        assert!(!off.apply(&profile()).display);
        let other = Changes { mdev_type: Some("nvidia-558".to_owned()), ..Changes::default() };
        assert_eq!(other.apply(&profile()).wish, Wish::Type("nvidia-558".to_owned()));
    }
}
