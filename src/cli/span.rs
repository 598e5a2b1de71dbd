//! Spans of time as an admin writes and reads them.

/// Reads `90s`, `10m` or `1h` as seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let wrong =
        || format!("{text:?} is not a duration: write a whole number with its unit, such as 90s, 10m or 1h");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
    let number: u32 = number.and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    match number.checked_mul(factor) {
        Some(0) | None => Err(format!("{text:?} is out of range: at least 1s")),
        Some(seconds) => Ok(seconds),
    }
}

/// Writes how far off a moment is: `in 9m 30s`, or `overdue`.
pub(super) fn until(moment: i64, now: i64) -> String {
    let left = moment.saturating_sub(now);
    match (left / 3600, left / 60 % 60, left % 60) {
        _ if left <= 0 => "overdue".to_owned(),
        (0, 0, s) => format!("in {s}s"),
        (0, m, 0) => format!("in {m}m"),
        (0, m, s) => format!("in {m}m {s}s"),
        (h, m, _) => format!("in {h}h {m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("1h"), Ok(3600));
        for text in ["", "10", "m", "1.5h", "-1s", "0s", "+5m", "9999999h", "5 m", "5µ"] {
            assert!(seconds(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn what_is_left_is_said_in_two_units() {
        assert_eq!(until(1570, 1000), "in 9m 30s");
        assert_eq!(until(1000, 1000), "overdue");
        assert_eq!(until(8200, 1000), "in 2h 0m");
        assert_eq!(until(i64::MAX, i64::MIN), format!("in {}h {}m", i64::MAX / 3600, i64::MAX / 60 % 60));
    }
}
