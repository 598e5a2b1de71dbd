//! The admin's profiles: reading them from a file, refusing nonsense, and finding what on a host could
//! serve one. Works on a snapshot it is given; never looks at hardware.
//!
//! A profile file is TOML. Exactly one of the first four keys, the others are optional; unknown keys
//! are refused:
//!
//! ```toml
//! framebuffer = "4GiB"      # smallest type with at least this, on any vendor's GPU
//! type = "nvidia-558"       # an mdev type, by its id or by the driver's name
//! vf = "8086:10ca"          # a virtual function with this PCI id
//! gpu = "any"               # a whole GPU: any, or one with a PCI id
//!
//! class = "graphics"        # a label for the kind of work
//! policy = "most-free"      # how the parent is chosen
//! float = "type"            # what may differ from one start to the next: parent, type or vendor
//! display = true            # display='on' in the hostdev
//! ramfb = true              # ramfb='on' in the hostdev; needs display
//! weight = 20               # turns on the GPU's engines beside other slices, 1 to 100
//! parameters = "enable_uvm=1" # for the plugin of NVIDIA's vGPUs
//! peers = true              # whole GPUs of one domain reach each other; needs gpu
//!
//! order = ["0000:41:00.0"]  # for the policy `priority`: the best GPU first
//! priority = 10             # who waits for room is served by this
//! preemptible = true        # a domain on it may be stopped for one of a greater priority
//! separate = ["ai"]         # classes that it shares no GPU with
//! overflow = false          # whether it may after all when all others are full
//! numa = "prefer"           # what the NUMA node of the domain's memory means: any, prefer, require
//! ```

mod bounds;
mod effects;
mod gates;
mod matching;

pub use bounds::{Bounds, SavedImage, Vendor};
pub use effects::effects;
pub use gates::{Gate, Gates, Taste};
pub use matching::{Fit, Match, candidates};

use serde::{Deserialize, Serialize};

use std::collections::BTreeSet;

use crate::model::{
    Float, Framebuffer, Kind, Numa, PciId, PluginParameters, Policy, Profile, ProfileName, Rules, Weight,
    WhichGpu, Wish, one_line,
};

/// The most bytes a profile file may have.
pub const MAX_FILE: usize = 64 * 1024;

/// The most bytes a type's id or name may have; the kernel's names are shorter.
const MAX_TYPE: usize = 128;

/// A profile that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The file is larger than any profile.
    #[error("the profile file has {bytes} bytes; the most is {MAX_FILE}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The file is not TOML, or a key or value is not one of a profile.
    #[error("line {line} of the profile file: {text}")]
    File {
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        text: String,
    },
    /// None, or more than one, of the wishes.
    #[error("a profile has exactly one of `framebuffer`, `type`, `vf` and `gpu`; this one has {0}")]
    Wishes(String),
    /// A value that contradicts another, or that no host can serve.
    #[error("{0}")]
    Absurd(String),
}

impl ProfileError {
    /// Returns what kind of no this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// The file's own form.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    framebuffer: Option<Framebuffer>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    mdev_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vf: Option<PciId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<WhichGpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<ProfileName>,
    #[serde(default)]
    policy: Policy,
    #[serde(default, skip_serializing_if = "Float::is_default")]
    float: Float,
    #[serde(default)]
    display: bool,
    #[serde(default)]
    ramfb: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    peers: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<Weight>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parameters: Option<PluginParameters>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    preemptible: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    separate: BTreeSet<ProfileName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overflow: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numa: Option<Numa>,
}

impl File {
    fn rules(&mut self) -> Rules {
        Rules {
            order: std::mem::take(&mut self.order),
            priority: self.priority.unwrap_or_default(),
            preemptible: self.preemptible,
            separate: std::mem::take(&mut self.separate),
            overflow: self.overflow,
            numa: self.numa.unwrap_or_default(),
        }
    }

    fn wish(&mut self) -> Result<Wish, ProfileError> {
        match (self.framebuffer, self.mdev_type.take(), self.vf, self.gpu) {
            (Some(size), None, None, None) => Ok(Wish::Framebuffer(size)),
            (None, Some(name), None, None) => Ok(Wish::Type(name)),
            (None, None, Some(id), None) => Ok(Wish::Vf(id)),
            (None, None, None, Some(which)) => Ok(Wish::Gpu(which)),
            (size, name, id, gpu) => {
                let given = [
                    size.map(|_| "`framebuffer`"),
                    name.map(|_| "`type`"),
                    id.map(|_| "`vf`"),
                    gpu.map(|_| "`gpu`"),
                ];
                let given: Vec<&str> = given.into_iter().flatten().collect();
                Err(ProfileError::Wishes(if given.is_empty() {
                    "none".to_owned()
                } else {
                    given.join(" and ")
                }))
            }
        }
    }
}

/// Reads a profile file; the profile's name comes from the command line, not from the file.
///
/// # Errors
/// When the file is too large, is not TOML, has an unknown key or a bad value, has not exactly one wish,
/// or fails [`validate`].
pub fn parse(name: ProfileName, text: &str) -> Result<Profile, ProfileError> {
    if text.len() > MAX_FILE {
        return Err(ProfileError::TooLarge { bytes: text.len() });
    }
    let mut file: File = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = 1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        ProfileError::File { line, text: one_line(error.message(), 300) }
    })?;
    let wish = file.wish()?;
    let profile = Profile {
        rules: file.rules(),
        class: file.class,
        policy: file.policy,
        float: file.float,
        display: file.display,
        ramfb: file.ramfb,
        peers: file.peers,
        weight: file.weight,
        parameters: file.parameters,
        ..Profile::new(name, wish)
    };
    validate(&profile)?;
    Ok(profile)
}

/// Prints a profile as a file that [`parse`] reads back.
#[must_use]
pub fn print(profile: &Profile) -> String {
    let mut file = File {
        framebuffer: None,
        mdev_type: None,
        vf: None,
        gpu: None,
        class: profile.class.clone(),
        policy: profile.policy,
        float: profile.float,
        display: profile.display,
        ramfb: profile.ramfb,
        peers: profile.peers,
        weight: profile.weight,
        parameters: profile.parameters.clone(),
        order: profile.rules.order.clone(),
        priority: Some(profile.rules.priority).filter(|priority| *priority != 0),
        preemptible: profile.rules.preemptible,
        separate: profile.rules.separate.clone(),
        overflow: profile.rules.overflow,
        numa: Some(profile.rules.numa).filter(|numa| *numa != Numa::Any),
    };
    match &profile.wish {
        Wish::Framebuffer(size) => file.framebuffer = Some(*size),
        Wish::Type(name) => file.mdev_type = Some(name.clone()),
        Wish::Vf(id) => file.vf = Some(*id),
        Wish::Gpu(which) => file.gpu = Some(*which),
    }
    toml::to_string(&file).unwrap_or_default()
}

/// Checks what the types alone cannot: values that contradict each other or that no host can serve.
///
/// # Errors
/// With one sentence that says what is wrong and what to write instead.
pub fn validate(profile: &Profile) -> Result<(), ProfileError> {
    let absurd = |text: String| Err(ProfileError::Absurd(text));
    match &profile.wish {
        Wish::Type(name) if name.is_empty() => return absurd("the type is empty".to_owned()),
        Wish::Type(name) if name.len() > MAX_TYPE => {
            return absurd(format!("the type has {} bytes; the most is {MAX_TYPE}", name.len()));
        }
        Wish::Type(name) if name.trim() != name || name.contains(char::is_control) => {
            let shown = one_line(name, MAX_TYPE);
            return absurd(format!(
                "the type {shown:?} has white space around it or control characters in it"
            ));
        }
        Wish::Framebuffer(size) if size.mib() == 0 => {
            return absurd("a framebuffer of 0 MiB is no framebuffer".to_owned());
        }
        Wish::Vf(id) if matches!(id.vendor, 0 | 0xffff) => {
            return absurd(format!(
                "{id} is not the id of any PCI function; `lspci -nn` shows the ids of VFs"
            ));
        }
        Wish::Vf(_) if profile.display || profile.ramfb => {
            return absurd(
                "display and ramfb are for mediated devices; a VF on its VFIO driver has no display"
                    .to_owned(),
            );
        }
        Wish::Gpu(_) if profile.display || profile.ramfb => {
            return absurd(
                "display and ramfb are for mediated devices; a whole GPU has its own connectors".to_owned(),
            );
        }
        _ => {}
    }
    if profile.peers && !matches!(profile.wish, Wish::Gpu(_)) {
        return absurd("peers are whole GPUs: it needs gpu as well".to_owned());
    }
    check_rules(profile)?;
    if profile.ramfb && !profile.display {
        return absurd(
            "ramfb shows the boot screen on the vGPU's display: it needs display as well".to_owned(),
        );
    }
    Ok(())
}

/// The most GPUs that an order names.
const MAX_ORDER: usize = 64;

fn check_rules(profile: &Profile) -> Result<(), ProfileError> {
    let absurd = |text: String| Err(ProfileError::Absurd(text));
    let Rules { order, priority, separate, .. } = &profile.rules;
    if order.len() > MAX_ORDER {
        return absurd(format!("the order names {} GPUs; the most is {MAX_ORDER}", order.len()));
    }
    if let Some(odd) = order.iter().find(|name| name.parse::<crate::model::GpuId>().is_err()) {
        return absurd(format!("{:?} in the order is no name of a GPU", one_line(odd, 80)));
    }
    if profile.policy == Policy::Priority && order.is_empty() {
        return absurd("the policy priority needs an order: the GPUs by name, the best first".to_owned());
    }
    if !(-Rules::MOST_PRIORITY..=Rules::MOST_PRIORITY).contains(priority) {
        let most = Rules::MOST_PRIORITY;
        return absurd(format!("priority {priority} is out of range: -{most} to {most}"));
    }
    if profile.class.is_none() && !separate.is_empty() {
        return absurd("separate keeps classes apart: the profile needs a class itself".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
