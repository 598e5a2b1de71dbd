//! A stand-in for the service: a thread on a Unix socket that gives canned answers and keeps what it
//! was asked. And the runner of the binaries that speak to it.

#![expect(clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the service does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers with this status and body.
    Answer(u16, String),
    /// Never answers.
    Hang,
    /// Hangs up in the middle of the answer.
    HangUp,
}

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    /// The body.
    pub(crate) body: String,
}

/// A root directory, and perhaps a service that listens below it.
pub(crate) struct Host {
    root: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Host {
    /// Creates a root without a service.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(root.path().join("run/vgpud")).expect("run directory");
        Self { root, asked: Arc::default() }
    }

    /// Creates a root with a service that decides by the number and text of the request.
    pub(crate) fn with(act: impl Fn(usize, &Asked) -> Act + Send + 'static) -> Self {
        let host = Self::new();
        host.listen(act);
        host
    }

    /// Starts listening.
    pub(crate) fn listen(&self, act: impl Fn(usize, &Asked) -> Act + Send + 'static) {
        let listener = UnixListener::bind(self.path().join("run/vgpud/vgpud.sock")).expect("socket");
        let asked = Arc::clone(&self.asked);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("connection");
                let request = read_request(&mut stream);
                let number = {
                    let mut asked = asked.lock().expect("no panic while locked");
                    asked.push(request.clone());
                    asked.len() - 1
                };
                held.extend(answer(stream, act(number, &request)));
            }
        });
    }

    /// Returns the root directory.
    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    /// Writes the list of devices that are ours.
    pub(crate) fn own(&self, devices: &str) {
        let file = std::fs::File::create(self.path().join("run/vgpud/owned"));
        file.and_then(|mut file| file.write_all(devices.as_bytes())).expect("list of devices");
    }

    /// Returns what the service was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic while locked").clone()
    }

    /// Returns a command that runs `program` with nothing in its environment but this root.
    pub(crate) fn command(&self, program: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "tests start the binaries")]
        let mut command = Command::new(PathBuf::from(program));
        command.env_clear().env("VGPUD_ROOT", self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// How a run of a binary ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Runs `command` with `stdin`, which is written from a thread and then closed.
pub(crate) fn run(mut command: Command, stdin: Vec<u8>) -> Ended {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary starts");
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    let writer = std::thread::spawn(move || {
        // The binary need not read all of it.
        drop(pipe.write_all(&stdin));
    });
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("the writer ends with the binary");
    ended(output, started)
}

/// Turns an output into text.
pub(crate) fn ended(output: Output, started: Instant) -> Ended {
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("stdout is text"),
        stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        took: started.elapsed(),
    }
}

fn read_request(stream: &mut UnixStream) -> Asked {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                let line = head.lines().next().unwrap_or_default();
                let line = line.strip_suffix(" HTTP/1.1").unwrap_or(line).to_owned();
                return Asked { line, body: body.to_owned() };
            }
        }
        let count = stream.read(&mut chunk).expect("request");
        if count == 0 {
            return Asked { line: String::new(), body: text };
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// Does what it is told; returns the stream when it must stay open.
fn answer(mut stream: UnixStream, act: Act) -> Option<UnixStream> {
    match act {
        Act::Hang => return Some(stream),
        Act::HangUp => drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")),
        Act::Answer(status, body) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
            drop(stream.write_all((head + &body).as_bytes()));
        }
    }
    None
}
