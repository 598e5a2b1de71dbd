//! What NVIDIA's driver writes: lists of types, and names of types.

use crate::model::{Framebuffer, MdevTypeId, VgpuType, one_line};

/// Longest name that is kept.
const MOST_NAME: usize = 128;

/// Reads `creatable_vgpu_types`: a header, then `1155  : NVIDIA L40S-8Q` a line. A line whose left side is no
/// number is none of a type. Sources: NVIDIA's kubevirt-gpu-device-plugin, Proxmox' pve-common (SysFSTools.pm).
pub(super) fn parse_list(text: &str) -> Vec<VgpuType> {
    let lines = text.lines().filter_map(|line| {
        let (number, name) = line.split_once(':')?;
        named_type(number.trim().parse().ok()?, name.trim())
    });
    let mut types: Vec<VgpuType> = lines.collect();
    types.sort_by(|a, b| a.id.cmp(&b.id));
    types.dedup_by(|a, b| a.id == b.id);
    types
}

/// Returns the type of this number and name; `None` for 0, which stands for no type.
#[must_use]
pub fn named_type(number: u32, name: &str) -> Option<VgpuType> {
    let id = MdevTypeId::from_vgpu_number(number).filter(|_| number > 0)?;
    let size = Size::parse(name);
    Some(VgpuType {
        id,
        name: one_line(name, MOST_NAME),
        framebuffer: size.map(|size| size.framebuffer),
        mig: size.is_some_and(|size| size.mig),
    })
}

/// What the end of a type's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    framebuffer: Framebuffer,
    mig: bool,
}

impl Size {
    /// Reads `…-<GB><S>` and `…-<slices>-<GB><S><extra>`; 0 GB stands for 512 MiB. Sources: NVIDIA's
    /// vgpu-device-manager (pkg/types) and vGPU guides.
    fn parse(name: &str) -> Option<Self> {
        let (rest, last) = name.rsplit_once('-')?;
        let digits = last.bytes().take_while(u8::is_ascii_digit).count();
        let (gib, series) = last.split_at(digits);
        let extra = series.strip_prefix(['A', 'B', 'C', 'Q'])?;
        let gib: u32 = gib.parse().ok().filter(|gib| *gib <= 1024)?;
        let slices = rest.rsplit('-').next().unwrap_or_default();
        let mig = rest.contains('-') && !slices.is_empty() && slices.bytes().all(|b| b.is_ascii_digit());
        let known = match extra {
            "" => true,
            "ME" | "NOME" | "MEALL" | "GFX" => mig,
            _ => false,
        };
        let mib = if gib == 0 { 512 } else { gib * 1024 };
        known.then(|| Self { framebuffer: Framebuffer::from_mib(mib), mig })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &str) -> Option<(u32, bool)> {
        Size::parse(name).map(|size| (size.framebuffer.mib(), size.mig))
    }

    #[test]
    fn the_size_is_at_the_end_of_the_name() {
        let cases = [
            ("NVIDIA L40S-8Q", Some((8192, false))),
            ("GRID M60-0Q", Some((512, false))),
            ("NVIDIA RTX6000-Ada-48Q", Some((49_152, false))),
            ("H200X-141C", Some((144_384, false))),
            ("NVIDIA A100-1-5CME", Some((5120, true))),
            ("NVIDIA H200X-1-18C", Some((18_432, true))),
            ("NVIDIA RTX Pro 6000 Blackwell DC-1-24Q", Some((24_576, true))),
            ("NVIDIA RTX Pro 6000 Blackwell DC-4-96QGFX", Some((98_304, true))),
            ("NVIDIA L40S-8QME", None),
            ("NVIDIA L40S-8X", None),
            ("NVIDIA L40S", None),
            ("NVIDIA L40S-", None),
            ("NVIDIA L40S-9999999Q", None),
            ("", None),
        ];
        for (name, found) in cases {
            assert_eq!(read(name), found, "{name:?}");
        }
    }

    #[test]
    fn lines_that_are_no_types_are_passed_over() {
        let text = "ID    : vGPU Name\n1155  : NVIDIA L40S-8Q\n1145  : NVIDIA L40S-1B\n\nhello\n0 : none\n";
        let found: Vec<(String, String)> =
            parse_list(text).into_iter().map(|one| (one.id.to_string(), one.name)).collect();
        let expected = [("nvidia-1145", "NVIDIA L40S-1B"), ("nvidia-1155", "NVIDIA L40S-8Q")];
        assert_eq!(found, expected.map(|(id, name)| (id.to_owned(), name.to_owned())));
        assert!(parse_list("ID    : vGPU Name\n").is_empty());
        assert_eq!(parse_list("7 : a: b").first().map(|one| one.name.clone()), Some("a: b".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_tolerated(text: String) {
            parse_list(&text);
        }

        #[test]
        fn every_size_is_read_back(gib in 0u32..=1024, series in "[ABCQ]") {
            let mib = if gib == 0 { 512 } else { gib * 1024 };
            prop_assert_eq!(read(&format!("NVIDIA X-{gib}{series}")), Some((mib, false)));
        }
    }
}
