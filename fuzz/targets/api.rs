//! Whole requests to a service, by its own socket, with its engine, its ledger and two domains.
//!
//! An input is a sequence of requests, one after the other:
//!
//! ```text
//! PUT /v1/profiles/desk
//! {"name": "desk", "wish": {"type": "mtty-1"}}
//! GET /v1/profiles
//! ```
//!
//! A line that begins with a method begins a request; what follows up to the next is its body. The host is
//! plain files that do not react: a slice that is made is not found afterwards, and that is told.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use vgpud::config::{Config, Paths};
use vgpud::desk::Desk;
use vgpud::engine::Engine;
use vgpud::libvirt::Link;
use vgpud::model::{Kind, Refusal};

use super::manifest;
use super::tree::put;

const HOST: &str = include_str!("../../tests/fixtures/nvidia-a40-sriov-mdev/host.txt");
const BOOT: &str =
    "f proc/sys/kernel/random/boot_id 0444 \"00000000-0000-4000-8000-000000000001\\n\"\nd dev/vfio\n";

/// The domains: one is off, one is on.
const DOMAINS: [(&str, &str); 2] =
    [("web1", "71c00065-9ff8-4eb5-af8c-5d5c82c20df6"), ("web2", "71c00065-9ff8-4eb5-af8c-5d5c82c20df7")];

/// More requests in one input only repeat.
const MOST_REQUESTS: usize = 12;

struct Service {
    socket: PathBuf,
    domains: PathBuf,
    _root: TempDir,
}

impl Service {
    fn start() -> Self {
        let root = TempDir::new().expect("temporary directory");
        manifest::write_out(&format!("{HOST}{BOOT}"), root.path());
        let domains = root.path().join("domains");
        let uri = format!("dir:{}", domains.display());
        let paths = Paths::new(Some(root.path().into()), None, Some(uri));
        let service = Self { socket: paths.socket().to_owned(), domains, _root: root };
        service.define();
        let engine = Engine::open(&paths, &Config::default()).expect("an engine");
        engine.recover().expect("nothing to recover");
        let (link, events) = Link::start(paths.libvirt_uri()).expect("a thread");
        let desk = Desk::new(engine, link);
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _events = events;
            let runtime = tokio_runtime();
            runtime.block_on(async {
                let listener = vgpud::api::listen(&paths).expect("a socket");
                ready.send(()).expect("somebody waits");
                vgpud::api::serve(listener, desk, &paths, std::future::pending()).await.expect("served");
            });
        });
        wait.recv().expect("the service listens");
        service
    }

    /// Writes the definitions as they were.
    fn define(&self) {
        for (name, uuid) in DOMAINS {
            let xml = format!(
                "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>{uuid}</uuid>\n  <devices>\n  </devices>\n</domain>\n"
            );
            put(&self.domains.join(format!("{name}.xml")), xml.as_bytes());
            if name == "web2" {
                put(&self.domains.join(format!("{name}.live.xml")), xml.as_bytes());
            }
        }
    }

    /// Sends one request and judges the answer; returns its status.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        let mut stream = UnixStream::connect(&self.socket).expect("the service listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        // It may refuse and hang up before it has read everything.
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => judge(&answer),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{method} {path}: no answer: {error}"),
        }
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime")
}

/// Whatever was asked: an answer of ours, or of the HTTP library to what is no HTTP. Never a defect.
fn judge(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    if status == 200 {
        serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    } else if !body.is_empty() {
        let refusal: Refusal = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_ne!(refusal.kind, Kind::Internal, "{text}");
        assert_eq!(refusal.kind.http_status(), status, "{text}");
        super::assert_one_line(&refusal.message);
    }
    status
}

/// A request of an input.
struct Request {
    method: &'static str,
    path: String,
    body: Vec<u8>,
}

fn requests(data: &[u8]) -> Vec<Request> {
    let mut found: Vec<Request> = Vec::new();
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let begins = ["GET", "PUT", "POST", "DELETE"].into_iter().find_map(|method| {
            let rest = line.strip_prefix(method.as_bytes())?.strip_prefix(b" ")?;
            Some((method, rest))
        });
        match (begins, found.last_mut()) {
            (Some((method, path)), _) => {
                // What would end the request line is no matter of ours but of the HTTP library.
                let plain = |byte: &&u8| byte.is_ascii_graphic();
                let path: Vec<u8> = path.iter().filter(plain).copied().collect();
                let path = format!("/{}", String::from_utf8_lossy(&path).trim_start_matches('/'));
                found.push(Request { method, path, body: Vec::new() });
            }
            (None, Some(last)) => last.body.extend(line),
            (None, None) => {}
        }
    }
    found.truncate(MOST_REQUESTS);
    found
}

pub(super) fn run(data: &[u8]) {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    let requests = requests(data);
    if requests.is_empty() {
        return;
    }
    let service = SERVICE.get_or_init(Service::start);
    let mut profiles = Vec::new();
    for request in &requests {
        let status = service.ask(request.method, &request.path, &request.body);
        if request.method == "PUT" && status == 200 && request.path.starts_with("/v1/profiles/") {
            profiles.push(request.path.clone());
        }
    }
    // As it was, so that an input means the same whatever was before it.
    for (name, _) in DOMAINS {
        service.ask("POST", "/v1/detach", format!("{{\"domain\": \"{name}\"}}").as_bytes());
    }
    service.define();
    for path in profiles {
        let status = service.ask("DELETE", &path, b"");
        assert!(matches!(status, 200 | 404), "profile {path} cannot be deleted: {status}");
    }
}
