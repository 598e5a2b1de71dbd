//! The rules by which a GPU is chosen, by name.

/// How GPUs are compared. Each is deterministic; ties go to the GPU with the fewest idle slots, then the
/// lowest pattern of busy slots, then the lowest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The first GPU that has a place; there the first free id.
    FirstFit,
    /// The first GPU after the last one chosen; there the first free id.
    RoundRobin,
    /// Any GPU that has a place, any id there; drawn from the policy's seed.
    Random,
    /// The GPU with the most busy slots; there the first free id.
    Pack,
    /// The GPU with the most idle slots; there the first free id.
    Spread,
    /// The GPU with the smallest share of busy slots; there the first free id.
    LeastLoaded,
    /// The place in the shortest run of idle slots.
    BestFit,
    /// The place that lets F grow least: F = sum over the sizes of weight * (idle slots - slots of the
    /// size's free ids).
    Fgd,
}

/// In which mode idle GPUs are taken into use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModePlan {
    /// Always mixed.
    Mixed,
    /// Always one size.
    Equal,
    /// By size: one size while more GPUs than this are idle, then mixed. `u32::MAX`: always mixed.
    PerGpu(Vec<u32>),
}

/// How slices are placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For ordinary requests.
    pub rule: Rule,
    /// For urgent requests, where it differs.
    pub urgent: Option<Rule>,
    /// How idle GPUs are used.
    pub modes: ModePlan,
    /// Where random numbers begin.
    pub seed: u64,
}

/// The names of the policies, each with what it does in a line.
pub const POLICIES: &[(&str, &str)] = &[
    ("random", "any GPU that has a place, any free id there"),
    ("first-fit", "the first GPU that has a place, the first free id there"),
    ("driver", "what happens without a manager that knows places: as first-fit"),
    ("round-robin", "the next GPU that has a place, after the last one chosen"),
    ("least-loaded", "the GPU with the smallest share of busy slots"),
    ("spread", "the GPU with the most idle slots"),
    ("pack", "the GPU with the most busy slots"),
    ("best-fit", "the place in the shortest run of idle slots"),
    ("fgd", "the place that lets fragmentation grow least"),
    ("same-size", "one size a GPU, the fullest such GPU first (depth first)"),
    ("same-size-spread", "one size a GPU, the emptiest GPU first (breadth first)"),
    ("priority", "urgent requests as least-loaded, the others as pack"),
    ("vgpud", "one size a GPU while that pays, then mixed by fragmentation; two GPUs by an exact table"),
];

impl Policy {
    /// Creates a policy that compares by one rule, in mixed-size mode.
    #[must_use]
    pub fn mixed(rule: Rule) -> Self {
        Self { rule, urgent: None, modes: ModePlan::Mixed, seed: 0 }
    }

    /// Returns the policy of a name. `vgpud` comes without a mode plan: all mixed.
    #[must_use]
    pub fn named(name: &str, seed: u64) -> Option<Self> {
        let equal = |rule| Self { modes: ModePlan::Equal, ..Self::mixed(rule) };
        let policy = match name {
            "random" => Self::mixed(Rule::Random),
            "first-fit" | "driver" => Self::mixed(Rule::FirstFit),
            "round-robin" => Self::mixed(Rule::RoundRobin),
            "least-loaded" => Self::mixed(Rule::LeastLoaded),
            "spread" => Self::mixed(Rule::Spread),
            "pack" => Self::mixed(Rule::Pack),
            "best-fit" => Self::mixed(Rule::BestFit),
            "fgd" | "vgpud" => Self::mixed(Rule::Fgd),
            "same-size" => equal(Rule::Pack),
            "same-size-spread" => equal(Rule::Spread),
            "priority" => Self { urgent: Some(Rule::LeastLoaded), ..Self::mixed(Rule::Pack) },
            _ => return None,
        };
        Some(Self { seed, ..policy })
    }

    /// Returns the rule for a request.
    #[must_use]
    pub fn rule_for(&self, urgent: bool) -> Rule {
        self.urgent.filter(|_| urgent).unwrap_or(self.rule)
    }
}

impl Rule {
    /// Returns whether the GPU's pattern alone decides, so that equal patterns are one candidate.
    #[must_use]
    pub fn by_pattern(self) -> bool {
        !matches!(self, Self::FirstFit | Self::RoundRobin | Self::Random)
    }
}
