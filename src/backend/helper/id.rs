//! Recognizing a process after the one that started it is gone.

use nix::poll::{PollTimeout, poll};

use crate::model::HelperId;
use crate::sysfs::Sysfs;

// Processes are always those of the machine itself, also in a rehearsal below another root.

impl HelperId {
    /// Reads the id of a process; `None` when there is no such process.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        read(pid).map(|(_, start_time)| Self { pid, start_time })
    }

    /// Returns the id of this process.
    pub(super) fn of_this_process() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, start_time: 0 })
    }

    /// Returns whether the process still runs. One that has ended and only waits to be collected does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        read(self.pid)
            .is_some_and(|(state, start_time)| start_time == self.start_time && !matches!(state, 'Z' | 'X'))
    }
}

/// Waits until a process that is not our child has ended, however long that takes; for a thread of its own.
pub fn wait_end(id: HelperId) {
    while id.is_alive() {
        // No descriptor tells: this only happens after a restart during a hang, and a second is soon enough.
        let _ = poll(&mut [], PollTimeout::from(1000u16));
    }
}

fn read(pid: u32) -> Option<(char, u64)> {
    parse(&Sysfs::new("/").read(&format!("proc/{pid}/stat")).ok()?)
}

/// Reads state and start time. The command's name stands in parentheses and may hold anything,
/// parentheses and spaces included, so fields are counted from the last one on.
fn parse(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // State is field 3; 18 fields lie between it and field 22.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_with_its_pid_is_not() {
        let id = HelperId::of_this_process();
        assert!(id.is_alive());
        assert!(!HelperId { start_time: id.start_time - 1, ..id }.is_alive());
        assert_eq!(HelperId::of(u32::MAX), None);
    }

    proptest! {
        #[test]
        fn odd_names_do_not_shift_the_fields(name in "[ -~]{0,15}", start: u64) {
            let between = "1 ".repeat(18);
            let stat = format!("7 ({name}) S {between}{start} 0 0");
            prop_assert_eq!(parse(&stat), Some(('S', start)));
        }

        #[test]
        fn any_text_is_tolerated(text: String) {
            parse(&text);
        }
    }
}
