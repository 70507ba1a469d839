//! Archives in and out of sandboxes, streamed over HTTP.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::{self, ArchiveFormat};
use noxrunner_protocol::types::UploadResult;
use ureq::http::{Response, header};
use ureq::{Agent, Body, BodyReader, SendBody};

use crate::TransferError;
use crate::transport::{NoNames, SocketConnector};

/// Bytes that go to the system at once, each way: less costs calls, more leaves the
/// processor's cache between the copies that are made of them.
const BUFFER_BYTES: usize = 128 * 1024;

/// Longest answer that is no archive, in bytes.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// What requests are addressed to. Nothing looks the name up: the connector knows the way.
const BASE: &str = "http://localhost";

/// Transfers to and from a daemon that is the caller's own or root's. Each one has a
/// connection of its own.
#[derive(Debug)]
pub struct Transfers {
    socket: PathBuf,
    stop: Option<Arc<OwnedFd>>,
}

impl Transfers {
    /// Transfers over the daemon's socket, which is not touched yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), stop: None }
    }

    /// Ends transfers with [`TransferError::Stopped`] as soon as there is something to
    /// read in `stop`, or nobody holds its other end.
    #[must_use]
    pub fn stop_when_readable(self, stop: OwnedFd) -> Self {
        Self { stop: Some(Arc::new(stop)), ..self }
    }

    /// Sends a tar archive, plain or compressed by gzip, to be unpacked into the directory
    /// `dest` of a sandbox. It is read to its end, unless the daemon answers before.
    ///
    /// # Errors
    /// Where nothing of it was put in place, and [`TransferError::Source`] where reading
    /// `archive` fails: the daemon then sees that it was cut off.
    pub fn upload(
        &self,
        id: &SessionId,
        dest: &[u8],
        archive: &mut dyn Read,
    ) -> Result<UploadResult, TransferError> {
        let answered = Arc::new(AtomicBool::new(false));
        let mut source = Source { archive, answered: Arc::clone(&answered), failure: None };
        let sent = self
            .agent(answered)
            .post(format!("{BASE}{}", http::upload(id, dest)))
            .header(header::CONTENT_TYPE, http::TAR)
            .send(SendBody::from_reader(&mut source));
        if let Some(failure) = source.failure {
            return Err(TransferError::Source(failure));
        }
        let body = answer(sent.map_err(TransferError::from_http)?)?.1;
        serde_json::from_slice(&all(body)?).map_err(|e| TransferError::BadAnswer(e.to_string()))
    }

    /// Asks for an archive of a directory or a file of a sandbox.
    ///
    /// # Errors
    /// Where there will be none.
    pub fn download(
        &self,
        id: &SessionId,
        src: &[u8],
        format: ArchiveFormat,
    ) -> Result<Download, TransferError> {
        let url = format!("{BASE}{}", http::download(id, src, format));
        let sent = self.agent(Arc::default()).get(url).call();
        let (head, body) = answer(sent.map_err(TransferError::from_http)?)?;
        let has = |name| head.headers.contains_key(name);
        // Without either nothing tells an archive that ends from one that is cut off.
        if !has(header::TRANSFER_ENCODING) && !has(header::CONTENT_LENGTH) {
            return Err(TransferError::BadAnswer("an archive without a length".to_owned()));
        }
        let redirected = head.headers.get(http::REDIRECTED).is_some_and(|value| value == "true");
        Ok(Download { redirected, body: body.into_reader() })
    }

    fn agent(&self, answered: Arc<AtomicBool>) -> Agent {
        let config = Agent::config_builder()
            // The environment's proxies are for other machines.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(0)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .user_agent(concat!("noxrunner-client/", env!("CARGO_PKG_VERSION")))
            .build();
        let (socket, stop) = (self.socket.clone(), self.stop.clone());
        Agent::with_parts(config, SocketConnector { socket, stop, answered }, NoNames)
    }
}

/// An archive on its way from a daemon. Its end is its end: what is cut off is an error,
/// which [`Download::failure`] takes out of what the reading returned.
pub struct Download {
    /// Whether the path was outside and replaced by the workspace.
    pub redirected: bool,
    body: BodyReader<'static>,
}

impl Download {
    /// What an error of reading from a download stands for.
    pub fn failure(error: io::Error) -> TransferError {
        match error.downcast::<TransferError>() {
            Ok(error) => error,
            Err(error) => TransferError::from_io(error),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.body.read(buf).map_err(|e| io::Error::other(TransferError::from_io(e)))
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("redirected", &self.redirected).finish_non_exhaustive()
    }
}

/// An archive that is sent: it ends early where the daemon has answered already.
struct Source<'a> {
    archive: &'a mut dyn Read,
    answered: Arc<AtomicBool>,
    failure: Option<io::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.answered.load(Ordering::Relaxed) {
                return Ok(0);
            }
            match self.archive.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Kept here, or it could not be told from the connection's errors.
                Err(e) => {
                    self.failure = Some(e);
                    return Err(io::ErrorKind::Other.into());
                }
                read => return read,
            }
        }
    }
}

/// An answer that is no error, in two parts.
fn answer(response: Response<Body>) -> Result<(ureq::http::response::Parts, Body), TransferError> {
    let (head, body) = response.into_parts();
    match head.status.as_u16() {
        200 => Ok((head, body)),
        status if status >= 400 => Err(TransferError::refused(status, &all(body)?)),
        status => Err(TransferError::BadAnswer(format!("status {status}"))),
    }
}

/// All of an answer that is no archive.
fn all(body: Body) -> Result<Vec<u8>, TransferError> {
    let mut bytes = Vec::new();
    let mut bounded = body.into_reader().take(MAX_ANSWER_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(TransferError::from_io)?;
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        let error = format!("it has more than {MAX_ANSWER_BYTES} bytes");
        return Err(TransferError::BadAnswer(error));
    }
    Ok(bytes)
}
