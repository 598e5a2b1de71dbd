//! Numbers and truth values as the kernel reads them (k:lib/kstrtox.c).

use nix::errno::Errno;

/// kstrtoull with base 0: one `+` before, one newline behind, `0x` and `0` say the base.
pub(super) fn parse(value: &str) -> Result<u64, Errno> {
    let text = value.strip_prefix('+').unwrap_or(value);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match hex {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ if text.starts_with('0') => (text, 8),
        _ => (text, 10),
    };
    // Rust takes a sign of its own.
    if digits.starts_with(['+', '-']) {
        return Err(Errno::EINVAL);
    }
    u64::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL)
}

/// kstrtobool: only the first letter counts, after `o` the second.
pub(super) fn parse_bool(value: &str) -> Result<bool, Errno> {
    let mut letters = value.chars().map(|c| c.to_ascii_lowercase());
    match (letters.next(), letters.next()) {
        (Some('1' | 'y' | 't'), _) | (Some('o'), Some('n')) => Ok(true),
        (Some('0' | 'n' | 'f'), _) | (Some('o'), Some('f')) => Ok(false),
        _ => Err(Errno::EINVAL),
    }
}

/// A name that ends where the kernel's comparison lets it end: one newline may follow (sysfs_streq).
pub(super) fn name(value: &str) -> &str {
    value.strip_suffix('\n').unwrap_or(value)
}
