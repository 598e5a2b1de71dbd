//! One question to the service, patient with one that restarts.

use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};
use crate::config::Paths;
use crate::wire::{Exchanged, Hook, HookAnswer};

/// Everything here ends this long after the process began; half a second before the hard cap.
const DEADLINE: Duration = Duration::from_millis(9_500);
/// How long what may fail waits for a service that is not there: it may be restarting.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for the other operations, which lose nothing: the service looks itself when it starts.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks the service; sends the request again, with the same run id, at most once. Returns the addresses to be
/// exchanged. The fault is a line.
pub(super) fn ask(paths: &Paths, hook: &Hook, started: Instant) -> Result<Vec<Exchanged>, String> {
    let patience = if hook.op.may_refuse() { PATIENCE } else { SHORT_PATIENCE };
    let mut absent_until = Instant::now() + patience;
    let mut sent_again = false;
    loop {
        let left = DEADLINE.saturating_sub(started.elapsed());
        let client = Client::new(paths).deadline(left);
        match client.post::<HookAnswer>("/v1/hook", hook) {
            Ok(answer) => return Ok(answer.exchanges),
            Err(ClientError::NotRunning { .. }) if Instant::now() < absent_until && left > PAUSE => pause(),
            Err(ClientError::Lost { .. }) if !sent_again => {
                sent_again = true;
                // A service that dies closes its connections one by one; the socket may be the last.
                pause();
                // It was there a moment ago, and systemd starts it again: a start is worth all the time there is.
                absent_until = Instant::now() + if hook.op.may_refuse() { left } else { patience };
            }
            Err(error) => return Err(line(error, hook)),
        }
    }
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing tells that a socket will appear; the loop has a deadline"
    )]
    std::thread::sleep(PAUSE);
}

/// Says what went wrong and the first thing to do about it.
fn line(error: ClientError, hook: &Hook) -> String {
    let domain = &hook.domain;
    match (error, hook.op.may_refuse()) {
        (ClientError::NotRunning { .. }, true) => {
            format!(
                "domain {domain} needs vGPU slices and vgpud is not running; start it with: systemctl start vgpud"
            )
        }
        (ClientError::NotRunning { .. }, _) => {
            format!("vgpud is not running; it looks at the slices of domain {domain} when it starts")
        }
        (ClientError::Deadline { .. }, _) => {
            format!("vgpud did not answer for domain {domain} in time; see: journalctl -u vgpud")
        }
        (error, _) => {
            let refusal = error.into_refusal();
            match refusal.hints.first() {
                Some(hint) => format!("{}; {hint}", refusal.message),
                None => refusal.message,
            }
        }
    }
}
