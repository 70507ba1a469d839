//! Archives in and out of sandboxes, streamed over HTTP.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::{self, ArchiveFormat, Uploaded};
use ureq::BodyReader;
use ureq::http::{Method, header};

use crate::TransferError;
use crate::request::{Ask, Content, Requests, Route};

/// Longest answer that is no archive, in bytes.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// What a backend may call an archive. What calls itself something else is another server's.
const ARCHIVES: [&str; 8] = [
    http::TAR,
    "application/tar",
    "application/x-gtar",
    "application/gzip",
    "application/x-gzip",
    "application/x-tgz",
    "application/x-compressed-tar",
    "application/octet-stream",
];

/// Transfers to and from a daemon that is the caller's own or root's, or a backend elsewhere.
/// Each one has a connection of its own.
#[derive(Debug)]
pub struct Transfers {
    requests: Requests,
}

impl Transfers {
    /// Transfers over the daemon's socket, which is not touched yet.
    pub fn new(socket: &Path) -> Self {
        Self::over(Requests::new(Route::Socket(socket.to_owned())))
    }

    pub(crate) fn over(requests: Requests) -> Self {
        Self { requests }
    }

    /// Ends transfers with [`TransferError::Stopped`] as soon as there is something to
    /// read in `stop`, or nobody holds its other end.
    #[must_use]
    pub fn stop_when_readable(self, stop: OwnedFd) -> Self {
        Self { requests: Requests { stop: Some(Arc::new(stop)), ..self.requests } }
    }

    /// Sends a tar archive, plain or compressed by gzip, to be unpacked into the directory
    /// `dest` of a sandbox. It is read to its end, unless the other side answers before.
    ///
    /// # Errors
    /// Where nothing of it was put in place, and [`TransferError::Source`] where reading
    /// `archive` fails: the other side then sees that it was cut off.
    pub fn upload(
        &self,
        id: &SessionId,
        dest: &[u8],
        archive: &mut dyn Read,
    ) -> Result<Uploaded, TransferError> {
        let answered = Arc::new(AtomicBool::new(false));
        let mut source = Source { archive, answered: Arc::clone(&answered), failure: None };
        let sent = self.requests.ask(Ask {
            method: Method::POST,
            path: http::upload(id, dest),
            content_type: Some(http::TAR),
            content: Content::Reader(&mut source),
            answered,
        });
        if let Some(failure) = source.failure {
            return Err(TransferError::Source(failure));
        }
        let answer = sent?;
        let url = answer.url.clone();
        let body = answer.all(MAX_ANSWER_BYTES)?;
        match serde_json::from_slice(&body) {
            Ok(uploaded) => Ok(uploaded),
            // Its status says that it is done; only the daemon's answer has to say more.
            Err(_) if url.is_some() => Ok(Uploaded::default()),
            Err(e) => Err(TransferError::BadAnswer(e.to_string())),
        }
    }

    /// Asks for an archive of a directory or a file of a sandbox. Of a backend elsewhere it is
    /// compressed, whatever `format` says.
    ///
    /// # Errors
    /// Where there will be none.
    pub fn download(
        &self,
        id: &SessionId,
        src: &[u8],
        format: ArchiveFormat,
    ) -> Result<Download, TransferError> {
        let format = match self.requests.route {
            Route::Socket(_) => format,
            Route::Backend(_) => ArchiveFormat::TarGz,
        };
        let answer = self.requests.ask(Ask::new(Method::GET, http::download(id, src, format)))?;
        let url = answer.url.as_deref();
        let headers = &answer.head.headers;
        // Without either nothing tells an archive that ends from one that is cut off.
        let lengths = [header::TRANSFER_ENCODING, header::CONTENT_LENGTH];
        if !lengths.into_iter().any(|name| headers.contains_key(name)) {
            let error = TransferError::BadAnswer("an archive without a length".to_owned());
            return Err(error.at(url));
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if url.is_some()
            && let Some(kind) = kind
            && !ARCHIVES.iter().any(|known| known.eq_ignore_ascii_case(kind))
        {
            answer.not_a_page()?;
            let kind = crate::request::clean(kind);
            return Err(TransferError::BadAnswer(format!("{kind} is no archive")).at(url));
        }
        let redirected = headers.get(http::REDIRECTED).is_some_and(|value| value == "true");
        Ok(Download { redirected, url: answer.url, body: answer.body.into_reader() })
    }
}

/// An archive on its way here. Its end is its end: what is cut off is an error,
/// which [`Download::failure`] takes out of what the reading returned.
pub struct Download {
    /// Whether the path was outside and replaced by the workspace.
    pub redirected: bool,
    url: Option<String>,
    body: BodyReader<'static>,
}

impl Download {
    /// What an error of reading from a download stands for.
    pub fn failure(error: io::Error) -> TransferError {
        TransferError::from_io(error)
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let failed = |e| TransferError::from_io(e).at(self.url.as_deref());
        self.body.read(buf).map_err(|e| io::Error::other(failed(e)))
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
