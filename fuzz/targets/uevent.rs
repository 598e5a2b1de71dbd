//! What the kernel announces on its netlink socket.

use vgpud::uevent::{Event, concerns_us, parse};

pub(super) fn run(data: &[u8]) {
    if let Some(event) = parse(data) {
        let _: bool = concerns_us(&event);
        let Event::Device { action, devpath, .. } = event else { panic!("no message is an overflow") };
        assert!(!action.is_empty() && devpath.starts_with('/'));
    }
}
