//! What drivers say of a type in its free-text `description`.

use crate::model::Framebuffer;

/// Facts of a description; `None` is "does not say".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) framebuffer: Option<Framebuffer>,
    pub(super) heads: Option<u32>,
    pub(super) max_instances: Option<u32>,
}

/// Reads the three known forms and tolerates any other text:
///
/// - NVIDIA (vGPU user guides): `num_heads=4, frl_config=60, framebuffer=4096M, max_resolution=…, max_instance=8`
/// - GVT-g (drivers/gpu/drm/i915/gvt): lines `low_gm_size: 64MB`, `high_gm_size: 384MB`, `fence: 4`,
///   `resolution: 1024x768`, `weight: 2`. The guest sees both apertures as its graphics memory.
/// - mbochs (samples/vfio-mdev): `virtual display, 16 MB video memory`
pub(super) fn parse(text: &str) -> Facts {
    let mut facts = Facts::default();
    let mut apertures_mib = None;
    for part in text.split([',', '\n']).map(str::trim) {
        let Some((key, value)) = part.split_once(['=', ':']) else {
            if let Some(size) = part.strip_suffix(" video memory").and_then(mib) {
                facts.framebuffer = framebuffer(size);
            }
            continue;
        };
        let value = value.trim();
        match key.trim() {
            "framebuffer" => facts.framebuffer = mib(value).and_then(framebuffer),
            "num_heads" => facts.heads = value.parse().ok(),
            "max_instance" => facts.max_instances = value.parse().ok(),
            "low_gm_size" | "high_gm_size" => {
                apertures_mib = mib(value).and_then(|size| size.checked_add(apertures_mib.unwrap_or(0)));
            }
            _ => {}
        }
    }
    facts.framebuffer = facts.framebuffer.or_else(|| apertures_mib.and_then(framebuffer));
    facts
}

/// Replaces what could upset a terminal: control characters except the line feed, and those that turn
/// the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let odd = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if odd(c) { '\u{fffd}' } else { c }).collect()
}

/// Reads `4096M`, `64MB`, `16 MB`, `4G`, `4GB`, `4096MiB`.
fn mib(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "M" | "MB" | "MiB" => 1,
        "G" | "GB" | "GiB" => 1024,
        _ => return None,
    };
    number.parse::<u32>().ok()?.checked_mul(factor)
}

fn framebuffer(mib: u32) -> Option<Framebuffer> {
    (mib > 0).then(|| Framebuffer::from_mib(mib))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(framebuffer_mib: Option<u32>, heads: Option<u32>, max_instances: Option<u32>) -> Facts {
        Facts { framebuffer: framebuffer_mib.map(Framebuffer::from_mib), heads, max_instances }
    }

    #[test]
    fn nvidia_says_all_three() {
        let text = "num_heads=4, frl_config=60, framebuffer=4096M, max_resolution=7680x4320, max_instance=8";
        assert_eq!(parse(text), facts(Some(4096), Some(4), Some(8)));
    }

    #[test]
    fn gvt_g_apertures_add_up() {
        let text = "low_gm_size: 64MB\nhigh_gm_size: 384MB\nfence: 4\nresolution: 1024x768\nweight: 2\n";
        assert_eq!(parse(text), facts(Some(448), None, None));
    }

    #[test]
    fn samples_say_memory_or_nothing() {
        assert_eq!(parse("virtual display, 16 MB video memory"), facts(Some(16), None, None));
        assert_eq!(parse("virtual display, 1024x768 framebuffer"), Facts::default());
        assert_eq!(parse(""), Facts::default());
    }

    #[test]
    fn texts_for_people_hold_no_terminal_controls() {
        assert_eq!(printable("a\x1b[31m\u{202e}b\nc"), "a\u{fffd}[31m\u{fffd}b\nc");
    }

    #[test]
    fn nonsense_is_no_size() {
        for text in
            ["framebuffer=", "framebuffer=4", "framebuffer=-4M", "framebuffer=99999999G", "framebuffer=0M"]
        {
            assert_eq!(parse(text), Facts::default(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_nvidia_description_is_read(heads in 1u32..16, size in 1u32..200_000, most in 1u32..64) {
            let text = format!("num_heads={heads}, frl_config=60, framebuffer={size}M, x=y, max_instance={most}");
            prop_assert_eq!(parse(&text), facts(Some(size), Some(heads), Some(most)));
        }

        #[test]
        fn any_text_is_tolerated(text: String) {
            parse(&text);
        }
    }
}
