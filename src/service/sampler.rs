//! Asks NVIDIA's library now and then, on a thread of its own.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use super::ServiceError;
use crate::engine::Engine;

/// How often. What it says of load counts for a minute.
const EVERY: Duration = Duration::from_secs(20);

/// Starts asking; it goes on as long as the answer lives.
pub(super) fn start(engine: &Engine) -> Result<Sender<()>, ServiceError> {
    let (going, stopped) = mpsc::channel();
    let engine = engine.clone();
    let thread = std::thread::Builder::new().name("sampler".to_owned());
    let spawned = thread.spawn(move || {
        loop {
            engine.survey();
            if stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    });
    spawned.map(|_| going).map_err(ServiceError::Thread)
}
