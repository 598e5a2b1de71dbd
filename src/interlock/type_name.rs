//! Names of NVIDIA's vGPU types, as far as rules need them.

use std::fmt;

/// A name such as `NVIDIA A40-4Q` or `A100-1-5CME`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// The GPU's part, without a leading `GRID` or `NVIDIA`: the board type.
    pub board: String,
    /// Slices of the GPU instance, of a MIG-backed type.
    pub mig_slices: Option<u32>,
    /// Nominal framebuffer in GB; 0 is half a GB.
    pub gb: u32,
    /// `A`, `B`, `C` or `Q`.
    pub series: char,
    /// What follows the series, e.g. `ME`.
    pub extra: String,
}

impl TypeName {
    /// Reads a name; `None` when it is none of NVIDIA's.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim();
        let name = name.strip_prefix("GRID ").or_else(|| name.strip_prefix("NVIDIA ")).unwrap_or(name);
        let (rest, last) = name.rsplit_once('-')?;
        let digits = last.bytes().take_while(u8::is_ascii_digit).count();
        let (gb, tail) = last.split_at(digits);
        let series = tail.chars().next().filter(|c| matches!(c, 'A' | 'B' | 'C' | 'Q'))?;
        let extra = &tail[1..];
        if !matches!(extra, "" | "ME" | "NOME" | "MEALL" | "GFX") {
            return None;
        }
        let mig = rest.rsplit_once('-').and_then(|(board, slices)| Some((board, slices.parse().ok()?)));
        let (board, mig_slices) = mig.map_or((rest, None), |(board, slices)| (board, Some(slices)));
        let board = board.trim();
        let plain =
            !board.is_empty() && board.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == ' ');
        plain.then_some(())?;
        Some(Self {
            board: board.to_owned(),
            mig_slices,
            gb: gb.parse().ok()?,
            series,
            extra: extra.to_owned(),
        })
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.board)?;
        if let Some(slices) = self.mig_slices {
            write!(f, "{slices}-")?;
        }
        write!(f, "{}{}{}", self.gb, self.series, self.extra)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(name: &str) -> Option<(String, Option<u32>, u32, char)> {
        TypeName::parse(name).map(|one| (one.board, one.mig_slices, one.gb, one.series))
    }

    #[test]
    fn names_of_every_generation_are_read() {
        assert_eq!(parts("GRID M60-0Q"), Some(("M60".to_owned(), None, 0, 'Q')));
        assert_eq!(parts("NVIDIA A40-48C"), Some(("A40".to_owned(), None, 48, 'C')));
        assert_eq!(parts("A100-1-5CME"), Some(("A100".to_owned(), Some(1), 5, 'C')));
        let blackwell = Some(("RTX Pro 6000 Blackwell DC".to_owned(), Some(1), 24, 'Q'));
        assert_eq!(parts("NVIDIA RTX Pro 6000 Blackwell DC-1-24Q"), blackwell);
        for none in ["i915-GVTg_V5_4", "mtty-1", "A40", "A40-4X", "A40-4QXX", "-4Q", "A40-Q", ""] {
            assert_eq!(parts(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_tolerated(text: String) {
            drop(TypeName::parse(&text));
        }

        #[test]
        fn what_is_printed_reads_back(
            board in "[A-Z][0-9]{1,3}[A-Z]?", mig_slices in proptest::option::of(1u32..8), gb in 0u32..300,
        ) {
            let name = TypeName { board, mig_slices, gb, series: 'C', extra: "ME".to_owned() };
            prop_assert_eq!(TypeName::parse(&format!("NVIDIA {name}")), Some(name));
        }
    }
}
