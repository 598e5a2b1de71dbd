//! The domain's XML on stdin: bounded in size and in time.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::domain_xml::MAX_XML;

/// How long stdin may take. libvirt writes at once.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How much is read at once: a pipe's capacity.
const CHUNK: usize = 64 << 10;

/// Why there is no XML.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("its XML has more than {} MiB", MAX_XML >> 20)]
    TooLarge,
    #[error("its XML on stdin does not end")]
    Endless,
    #[error("its XML cannot be read from stdin: {0}")]
    Read(io::Error),
}

/// Reads stdin to its end or to `deadline`. Of a text that is too large the rest is read and dropped.
pub(super) fn read(deadline: Instant) -> Result<Vec<u8>, InputError> {
    let stdin = io::stdin();
    let mut xml = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut too_large = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout);
        match ready.and_then(|ready| {
            if ready == 0 { Ok(None) } else { nix::unistd::read(&stdin, &mut chunk).map(Some) }
        }) {
            Ok(None) => return Err(InputError::Endless),
            Ok(Some(0)) if too_large => return Err(InputError::TooLarge),
            Ok(Some(0)) => return Ok(xml),
            Ok(Some(count)) => {
                too_large |= xml.len() + count > MAX_XML;
                if too_large {
                    xml = Vec::new();
                } else {
                    xml.extend(chunk.iter().take(count));
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => (),
            Err(errno) => return Err(InputError::Read(errno.into())),
        }
    }
}
