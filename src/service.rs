//! The service's life: open, recover, listen, say ready, serve, stop.

mod restorer;
mod sampler;

use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::{self, SocketError};
use crate::config::{Config, ConfigError, Paths};
use crate::desk::Desk;
use crate::engine::{Engine, OpenError, Starting};
use crate::libvirt::{self, Link};
use crate::model::{Kind, Refusal};
use restorer::{News, Ready};

/// Why the service did not start or had to stop.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot bring ledger and host to agreement")]
    Recover(#[source] Refusal),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("cannot block signals")]
    Signals(#[source] nix::Error),
}

impl ServiceError {
    fn kind(&self) -> Kind {
        match self {
            Self::Config(_) => Kind::Usage,
            Self::Recover(refusal) => refusal.kind,
            Self::Open(_) | Self::Socket(_) | Self::Thread(_) | Self::Signals(_) => Kind::HostFault,
        }
    }
}

/// Says how the service is started, and returns the exit code for having been started otherwise.
#[must_use]
pub fn usage() -> u8 {
    use std::io::Write;
    let text = "vgpud takes no arguments; it reads /etc/vgpud/vgpud.toml and VGPUD_ROOT, VGPUD_SOCKET, \
                VGPUD_LIBVIRT_URI, VGPUD_LOG. Talk to it with vgpuctl.\n";
    std::io::stderr().write_all(text.as_bytes()).unwrap_or_default();
    Kind::Usage.exit_code()
}

/// Runs the service until SIGTERM or SIGINT.
#[must_use]
pub fn main(paths: &Paths) -> ExitCode {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).without_time();
    tracing_subscriber::registry().with(lines).with(log_filter()).init();
    match run(paths) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let refusal = Refusal::from_error(error.kind(), &error);
            tracing::error!(error = %refusal, "vgpud stops");
            ExitCode::from(refusal.kind.exit_code())
        }
    }
}

/// Reads `VGPUD_LOG`: a level, or levels of modules. What cannot be read is the default.
fn log_filter() -> Targets {
    let wanted = std::env::var("VGPUD_LOG").ok().filter(|text| !text.is_empty());
    let wanted = wanted.and_then(|text| text.parse().ok());
    wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}

fn run(paths: &Paths) -> Result<(), ServiceError> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    // Before any thread, so that all inherit the mask and only the waiter sees the signals.
    signals.thread_block().map_err(ServiceError::Signals)?;
    let config = Config::load(paths)?;
    let engine = Engine::open(paths, &config)?;
    let (stop, stopping) = tokio::sync::oneshot::channel();
    let (news, told) = std::sync::mpsc::channel();
    wait_for_signal(signals, stop, news.clone())?;
    engine.recover().map_err(ServiceError::Recover)?;
    engine.expect_starts(starting(paths));
    restorer::start(&engine, paths, news)?;
    if restorer::wait_ready(&engine, &told, Duration::from_secs(config.boot.wait_s.into())) == Ready::Stopped
    {
        tracing::info!("stopping before the service was ready; what is under way in the kernel goes on");
        engine.flush();
        return Ok(());
    }
    let _sampling = sampler::start(&engine)?;
    let (link, events) = Link::start(paths.libvirt_uri()).map_err(ServiceError::Thread)?;
    let desk = Desk::new(engine.clone(), link);
    keep_flushing(&engine)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(ServiceError::Thread)?;
    runtime.block_on(async {
        let listener = api::listen(paths)?;
        let watcher = desk.clone();
        // From here on a client is answered; libvirt, which may wait for us, is asked only now.
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "cannot tell systemd that the service is ready");
        }
        let thread = std::thread::Builder::new().name("watcher".to_owned());
        thread.spawn(move || watcher.watch(&events)).map_err(ServiceError::Thread)?;
        let pointer = desk.clone();
        let thread = std::thread::Builder::new().name("pointer".to_owned());
        thread.spawn(move || pointer.keep_pointing()).map_err(ServiceError::Thread)?;
        tracing::info!(socket = %paths.socket().display(), "ready");
        let stop = async move { stopping.await.unwrap_or_default() };
        api::serve(listener, desk, paths, stop).await.map_err(ServiceError::from)
    })?;
    tracing::info!("stopping; nothing of a running guest is touched");
    engine.flush();
    // A request that still waits for the kernel must not keep the service from ending.
    runtime.shutdown_background();
    Ok(())
}

/// Deferred closes reach the disk within a second, several together.
fn keep_flushing(engine: &Engine) -> Result<(), ServiceError> {
    const GATHER: Duration = Duration::from_secs(1);
    let engine = engine.clone();
    let thread = std::thread::Builder::new().name("flusher".to_owned());
    let spawned = thread.spawn(move || {
        loop {
            let limit = engine.has_deferred().then_some(GATHER);
            let nudged = engine.wait_nudge(limit);
            if !nudged {
                engine.flush();
            }
        }
    });
    spawned.map(drop).map_err(ServiceError::Thread)
}

/// Tells the waiting start and the serving loop, whichever is there, that the service shall end.
fn wait_for_signal(
    signals: SigSet,
    stop: tokio::sync::oneshot::Sender<()>,
    news: Sender<News>,
) -> Result<(), ServiceError> {
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let spawned = thread.spawn(move || {
        if signals.wait().is_ok() {
            news.send(News::Stop).unwrap_or_default();
            stop.send(()).unwrap_or_default();
        }
    });
    spawned.map(drop).map_err(ServiceError::Thread)
}

/// libvirt is not asked which domains it will start: its files say so.
fn starting(paths: &Paths) -> Vec<Starting> {
    let domains = libvirt::autostart(paths.root());
    domains.into_iter().map(|(domain, devices)| Starting { domain, devices }).collect()
}
