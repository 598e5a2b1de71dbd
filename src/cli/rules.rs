//! What a profile says of the choice of a GPU, as arguments.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::model::{Numa, Profile, ProfileName, Rules};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// What is not said stays as it was.
#[derive(Debug, Default, Args)]
#[group(id = "rules", multiple = true, conflicts_with = "file")]
pub(super) struct RulesArguments {
    /// For the policy priority: GPUs by name or address, the best first, with commas between
    #[arg(long, value_delimiter = ',', value_name = "GPU,...")]
    order: Option<Vec<String>>,
    /// Who waits for room is served by this, the greatest first
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    priority: Option<i32>,
    /// Whether a domain on it may be stopped for one of a greater priority
    #[arg(long, value_enum)]
    preemptible: Option<Switch>,
    /// Classes that it shares no GPU with, with commas between; none ends it
    #[arg(long, value_delimiter = ',', value_name = "CLASS,...")]
    separate: Option<Vec<ProfileName>>,
    /// Whether it may share one after all when all others are full; as vgpud.toml says, unless said here
    #[arg(long, value_enum)]
    overflow: Option<Switch>,
    /// What the NUMA node of the domain's memory means for the choice of a GPU
    #[arg(long, value_parser = numas())]
    numa: Option<Numa>,
}

fn numas() -> impl TypedValueParser<Value = Numa> {
    PossibleValuesParser::new(["any", "prefer", "require"]).map(|name| match name.as_str() {
        "prefer" => Numa::Prefer,
        "require" => Numa::Require,
        _ => Numa::Any,
    })
}

impl RulesArguments {
    /// Returns whether nothing was said.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_none()
            && self.priority.is_none()
            && self.preemptible.is_none()
            && self.separate.is_none()
            && self.overflow.is_none()
            && self.numa.is_none()
    }

    /// Returns rules with what was said.
    pub(super) fn apply(&self, was: &Rules) -> Rules {
        let on = |switch: Switch| switch == Switch::On;
        let none = |classes: &Vec<ProfileName>| classes.len() == 1 && classes[0].as_str() == "none";
        let separate = self.separate.as_ref().map(|classes| match none(classes) {
            true => std::collections::BTreeSet::new(),
            false => classes.iter().cloned().collect(),
        });
        Rules {
            order: self.order.clone().unwrap_or_else(|| was.order.clone()),
            priority: self.priority.unwrap_or(was.priority),
            preemptible: self.preemptible.map_or(was.preemptible, on),
            separate: separate.unwrap_or_else(|| was.separate.clone()),
            overflow: self.overflow.map(on).or(was.overflow),
            numa: self.numa.unwrap_or(was.numa),
        }
    }
}

/// Says what of a profile's rules is not as usual, as lines of `profile show`.
pub(super) fn told(profile: &Profile) -> Vec<(&'static str, String)> {
    let Rules { order, priority, preemptible, separate, overflow, numa } = &profile.rules;
    let separate: Vec<&str> = separate.iter().map(ProfileName::as_str).collect();
    let yes = |yes: bool| if yes { "on" } else { "off" }.to_owned();
    let lines = [
        ("order", Some(order.join(", ")).filter(|text| !text.is_empty())),
        ("priority", Some(priority.to_string()).filter(|_| *priority != 0)),
        ("preemptible", preemptible.then(|| yes(true))),
        ("separate", Some(separate.join(", ")).filter(|text| !text.is_empty())),
        ("overflow", overflow.map(yes)),
        ("numa", Some(numa.to_string()).filter(|_| *numa != Numa::Any)),
    ];
    lines.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let was = Rules { priority: 5, overflow: Some(true), numa: Numa::Prefer, ..Rules::default() };
        assert_eq!(RulesArguments::default().apply(&was), was);
        let said = RulesArguments { overflow: Some(Switch::Off), ..RulesArguments::default() };
        assert_eq!(said.apply(&was), Rules { overflow: Some(false), ..was.clone() });
        let ai: ProfileName = "ai".parse().expect("class");
        let apart = Rules { separate: [ai].into(), ..was.clone() };
        let none = vec!["none".parse().expect("word")];
        let ended = RulesArguments { separate: Some(none), ..RulesArguments::default() };
        assert_eq!(ended.apply(&apart), was);
    }
}
