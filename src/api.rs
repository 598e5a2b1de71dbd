//! HTTP and JSON on the Unix socket.
//!
//! The socket is root:vgpud 0660: its mode is the access control. Who asks is known from the kernel
//! (SO_PEERCRED) and goes into the history; the hook's verbs are taken from uid 0 only. Each request runs
//! on a thread of its own, so that one that waits for the kernel keeps no other waiting.

mod check;
mod foreign;
mod hook;
mod insight;
mod metrics;
mod routes;
mod start;
mod usage;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use axum::extract::connect_info::Connected;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use nix::unistd::{Group, Uid, chown};
use tokio::net::UnixListener;

use crate::config::Paths;
use crate::desk::Desk;
use crate::engine::Peer;
use crate::metrics::Metrics;
use crate::model::{Kind, Refusal};
use crate::nvml::{Nvml, NvmlError, Summary};

use routes::router;

/// The group whose members may speak to the service.
const GROUP: &str = "vgpud";

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} socket {path}")]
pub struct SocketError {
    act: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// What every handler shares.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) desk: Desk,
    pub(crate) rehearsal: bool,
    pub(crate) nvml: Nvml,
    pub(crate) metrics: Arc<Metrics>,
    /// What the library said at the start. Set by a thread of its own: loading the library can take a second.
    pub(crate) nvml_said: Arc<OnceLock<String>>,
}

/// The peer of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Caller(Option<Peer>);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer = stream.io().peer_cred().ok();
        Self(peer.map(|cred| Peer { uid: cred.uid(), pid: cred.pid() }))
    }
}

impl Caller {
    /// Returns who it is, when the kernel told.
    const fn peer(self) -> Option<Peer> {
        self.0
    }

    /// Refuses everybody but root. In a rehearsal the service's own user stands for root.
    fn require_root(self, rehearsal: bool) -> Result<(), Refusal> {
        let own = rehearsal.then(|| Uid::effective().as_raw());
        match self.0 {
            Some(peer) if peer.uid == 0 || Some(peer.uid) == own => Ok(()),
            Some(peer) => Err(Refusal::new(
                Kind::Forbidden,
                format!("hook requests are taken from root only, not from uid {}", peer.uid),
            )),
            None => Err(Refusal::new(Kind::Forbidden, "hook requests need known peer credentials")),
        }
    }
}

/// Makes the socket: anything left of an earlier service is replaced, mode and group are set before
/// anybody can connect.
///
/// # Errors
/// When the directory cannot be written.
pub fn listen(paths: &Paths) -> Result<UnixListener, SocketError> {
    let path = paths.socket();
    let fail = |act: &'static str| move |source| SocketError { act, path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(fail("make the directory of"))?;
    }
    let beside = path.with_extension("new");
    remove(&beside).map_err(fail("replace"))?;
    let listener = UnixListener::bind(&beside).map_err(fail("bind"))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))
        .map_err(fail("set the mode of"))?;
    if Uid::effective().is_root()
        && let Ok(Some(group)) = Group::from_name(GROUP)
    {
        chown(&beside, None, Some(group.gid)).map_err(|errno| fail("set the group of")(errno.into()))?;
    }
    std::fs::rename(&beside, path).map_err(fail("put in place"))?;
    Ok(listener)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A refusal as an HTTP answer.
#[derive(Debug)]
pub(crate) struct No(Refusal);

impl No {
    const fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(self.0)).into_response()
    }
}

fn say(summary: Result<Summary, NvmlError>) -> String {
    match summary {
        Ok(summary) => summary.to_string(),
        Err(NvmlError::Absent(why)) => format!("absent: {why}"),
        Err(error) => Refusal::from(error).message,
    }
}

/// Serves until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    desk: Desk,
    paths: &Paths,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), SocketError> {
    let nvml = desk.engine().nvml().clone();
    let shared = Shared {
        desk,
        rehearsal: paths.is_rehearsal(),
        nvml,
        metrics: Arc::default(),
        nvml_said: Arc::default(),
    };
    let (nvml, answer) = (shared.nvml.clone(), Arc::clone(&shared.nvml_said));
    let asking = std::thread::Builder::new().name("ask-nvml".to_owned());
    let asked = asking.spawn(move || answer.set(say(nvml.summary())).unwrap_or_default());
    drop(asked.map_err(|error| tracing::warn!(%error, "no thread to ask NVML")));
    let service = router(shared).into_make_service_with_connect_info::<Caller>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop).await;
    served.map_err(|source| SocketError { act: "serve", path: paths.socket().to_owned(), source })
}
