//! One request to the service and its answer: HTTP/1.1 and JSON over the Unix socket.
//!
//! The calls block and each ends by its deadline. What the service refuses, and every way of not
//! reaching it, is its own error, because the reader has something else to do about each.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::config::Paths;
use crate::wire::{Kind, Refusal};

/// The largest answer that is read: several times that of a host with thousands of VFs.
const MOST_ANSWER: usize = 64 << 20;
/// How long a reading request may take; the service answers these from memory.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// How long a changing request may take: the kernel needs seconds for a PF with many VFs.
const CHANGE_DEADLINE: Duration = Duration::from_secs(120);
/// Pause before another try to connect when the service's queue of connections is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens. The request was not sent.
    #[error("vgpud is not running: nothing listens on {}", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket's mode does not let the caller in.
    #[error("not allowed to connect to {}", socket.display())]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// Another failure to connect. The request was not sent.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The deadline passed; whether the request was carried out is not known.
    #[error("vgpud did not answer within {} s", after.as_secs_f32())]
    Deadline {
        /// The deadline.
        after: Duration,
    },
    /// The connection broke between request and answer; whether the request was carried out is not known.
    #[error("the connection to vgpud broke before its answer was complete")]
    Lost {
        /// What the connection said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What came back is not an answer of this protocol.
    #[error("vgpud's answer to {request} is not understood: {text}")]
    Answer {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        text: String,
    },
    /// The request could not be written down; a defect of the caller.
    #[error("cannot write request {request}: {text}")]
    Request {
        /// Method and path.
        request: String,
        /// Why.
        text: String,
    },
    /// The service said no.
    #[error(transparent)]
    Refused(Refusal),
}

impl ClientError {
    /// Returns the error as a refusal: kind, one line with the whole chain, and hints.
    #[must_use]
    pub fn into_refusal(self) -> Refusal {
        let kind = match self {
            Self::Refused(refusal) => return refusal,
            Self::NotAllowed { .. } => Kind::Forbidden,
            Self::Deadline { .. } | Self::Lost { .. } => Kind::Busy,
            Self::NotRunning { .. } | Self::Connect { .. } => Kind::HostFault,
            Self::Answer { .. } | Self::Request { .. } => Kind::Internal,
        };
        let refusal = Refusal::from_error(kind, &self);
        match self {
            Self::NotRunning { .. } => refusal
                .hint("see why with: systemctl status vgpud")
                .hint("start it with: systemctl start vgpud"),
            Self::NotAllowed { .. } => refusal.hint("run as root, or join the group vgpud and log in again"),
            Self::Deadline { .. } => refusal
                .hint("the request may still be carried out; look with: vgpuctl status")
                .hint("see what it waits for with: journalctl -u vgpud"),
            Self::Lost { .. } => refusal
                .hint("the request may have been carried out; look with: vgpuctl status")
                .hint("see why the connection broke with: journalctl -u vgpud"),
            Self::Answer { .. } => refusal.hint("check that vgpud and vgpuctl are of the same version"),
            Self::Connect { .. } | Self::Request { .. } | Self::Refused(_) => refusal,
        }
    }
}

/// Speaks to one service. Holds no connection: each call makes its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    deadline: Option<Duration>,
}

impl Client {
    /// Creates a client of the service at `paths`; nothing is opened yet.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self { socket: paths.socket().to_owned(), deadline: None }
    }

    /// Sets how long each call may take, from connecting to the last byte of the answer.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Reads `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>)
    }

    /// Puts `body` at `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.call(Method::PUT, path, Some(body))
    }

    /// Posts `body` to `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body))
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, None::<&()>)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let name = format!("{method} {path}");
        let standard = if method == Method::GET { READ_DEADLINE } else { CHANGE_DEADLINE };
        let after = self.deadline.unwrap_or(standard);
        let request = request(method, path, body)
            .map_err(|text| ClientError::Request { request: name.clone(), text })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|source| self.connect_error(source))?;
        let exchange = async { tokio::time::timeout(after, self.exchange(request, &name)).await };
        let (status, bytes) = runtime.block_on(exchange).unwrap_or(Err(ClientError::Deadline { after }))?;
        decode(status, &bytes).map_err(|refused| match refused {
            Refused::By(refusal) => ClientError::Refused(refusal),
            Refused::Garbage(text) => ClientError::Answer { request: name, text },
        })
    }

    /// Sends one request over its own connection and reads the whole answer.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        name: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = self.connect().await?;
        let handshake = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(lost)?;
        // Ends with the runtime at the end of the call; its outcome is seen by the sender as well.
        drop(tokio::spawn(connection));
        let answer = sender.send_request(request).await.map_err(|error| broken(error, name))?;
        let status = answer.status();
        match Limited::new(answer.into_body(), MOST_ANSWER).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                let text = format!("it is longer than {} MiB", MOST_ANSWER >> 20);
                Err(ClientError::Answer { request: name.to_owned(), text })
            }
            Err(source) => Err(ClientError::Lost { source }),
        }
    }

    /// Connects; waits while the service's queue of connections is full.
    async fn connect(&self) -> Result<UnixStream, ClientError> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Err(error) => return Err(self.connect_error(error)),
            }
        }
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            // Reset: it was killed while the connection waited to be accepted, and nothing was sent.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                ClientError::NotRunning { socket }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { socket },
            _ => ClientError::Connect { socket, source },
        }
    }

    /// Returns the socket that calls go to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

/// Writes one segment of a path so that no text can leave it: everything but letters, digits and
/// `-._~:` is percent-encoded.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn request(
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Request<Full<Bytes>>, String> {
    let bytes = match body {
        Some(body) => serde_json::to_vec(body).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let request = Request::builder().method(method).uri(path).header(HOST, "vgpud");
    let request = if bytes.is_empty() { request } else { request.header(CONTENT_TYPE, "application/json") };
    request.body(Full::new(Bytes::from(bytes))).map_err(|error| error.to_string())
}

/// Why an answer that arrived whole is no success.
enum Refused {
    By(Refusal),
    Garbage(String),
}

fn decode<T: DeserializeOwned>(status: StatusCode, bytes: &[u8]) -> Result<T, Refused> {
    if status.is_success() {
        return serde_json::from_slice(bytes).map_err(|error| Refused::Garbage(error.to_string()));
    }
    match serde_json::from_slice(bytes) {
        Ok(refusal) => Err(Refused::By(refusal)),
        Err(_) => Err(Refused::Garbage(format!("status {} without a refusal", status.as_u16()))),
    }
}

fn lost(error: hyper::Error) -> ClientError {
    ClientError::Lost { source: Box::new(error) }
}

/// Tells an answer that is no HTTP from a connection that broke.
fn broken(error: hyper::Error, name: &str) -> ClientError {
    if error.is_parse() {
        return ClientError::Answer { request: name.to_owned(), text: error.to_string() };
    }
    lost(error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Answers one connection with `answer` after the request's first bytes, then hangs up.
    fn service(answer: &'static [u8]) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).expect("socket");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("connection");
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).expect("request");
            assert!(count > 0);
            stream.write_all(answer).expect("answer");
        });
        let paths = Paths::new(Some(dir.path().into()), Some(socket), None);
        (dir, Client::new(&paths))
    }

    fn outcome(answer: &'static [u8]) -> Result<u32, ClientError> {
        let (_dir, client) = service(answer);
        client.get("/v1/status")
    }

    #[test]
    fn a_refusal_comes_back_as_it_was_written() {
        let error = outcome(
            b"HTTP/1.1 409 Conflict\r\ncontent-length: 59\r\n\r\n\
              {\"kind\":\"conflict\",\"message\":\"taken\",\"hints\":[\"stop web1\"]}",
        )
        .expect_err("refused");
        let refusal = error.into_refusal();
        assert_eq!(refusal, Refusal::new(Kind::Conflict, "taken").hint("stop web1"));
    }

    #[test]
    fn an_answer_is_decoded() {
        let answer = outcome(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n42");
        assert_eq!(answer.expect("answer"), 42);
    }

    #[test]
    fn a_hang_up_before_or_inside_the_answer_is_lost() {
        for cut in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n42", b"HTTP/1."] {
            let error = outcome(cut).expect_err("cut");
            assert!(matches!(error, ClientError::Lost { .. }), "{cut:?}: {error:?}");
        }
    }

    #[test]
    fn garbage_is_not_mistaken_for_a_lost_connection() {
        for garbage in
            [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nhi"]
        {
            let error = outcome(garbage).expect_err("garbage");
            assert!(matches!(error, ClientError::Answer { .. }), "{garbage:?}: {error:?}");
        }
    }

    #[test]
    fn an_absent_socket_means_not_running_and_says_what_to_do() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let client = Client::new(&Paths::new(Some(dir.path().into()), None, None));
        let refusal = client.get::<u32>("/v1/status").expect_err("nothing listens").into_refusal();
        assert_eq!(refusal.kind, Kind::HostFault);
        assert!(refusal.message.starts_with("vgpud is not running: nothing listens on "));
        assert!(refusal.hints[0].contains("systemctl status vgpud"));
    }

    #[test]
    fn a_silent_service_ends_at_the_deadline() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("s");
        let _listener = UnixListener::bind(&socket).expect("socket");
        let client = Client::new(&Paths::new(None, Some(socket), None)).deadline(Duration::from_millis(50));
        let error = client.get::<u32>("/v1/status").expect_err("silent");
        assert!(matches!(error, ClientError::Deadline { .. }), "{error:?}");
    }

    #[test]
    fn a_segment_cannot_leave_its_place() {
        assert_eq!(segment("0000:41:00.4"), "0000:41:00.4");
        assert_eq!(segment("../a b?c#d%e/ü"), "..%2Fa%20b%3Fc%23d%25e%2F%C3%BC");
    }
}
