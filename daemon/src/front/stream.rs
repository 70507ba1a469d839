//! Archives on their way through, with no more of them in memory than a short queue has.

use std::io;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt, unfold};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::{Method, Response};
use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::{self, ArchiveFormat, REDIRECTED, TAR, Uploaded};
use noxrunner_protocol::limits::{MAX_DOWNLOAD_BYTES, MAX_RESPONSE_BYTES};
use noxrunner_protocol::types::UploadResult;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Front;
use super::answer::{Setback, take};
use super::error::{FrontError, Trouble, chain};
use crate::serve::http::pieces::{self, Piece, next};
use crate::serve::rpc::Caller;
use crate::serve::service::{Packed, Place};

/// Pieces of an upload between the two connections.
const QUEUE: usize = 4;

/// Passes an upload on. The body is read as far as the backend wants it.
pub(super) async fn upload(
    front: &Front,
    caller: Caller,
    to: &Place,
    body: &mut Incoming,
) -> Result<UploadResult, FrontError> {
    let name = front.name(caller, &to.id)?;
    let path = http::upload(&name, &to.path);
    // Passed on where it is known: some backends want it.
    let length = body.size_hint().exact();
    let (send, receive) = mpsc::channel(QUEUE);
    let transfer =
        front.upstream.transfer(&Method::POST, &path, Some(TAR), length, pieces::body(receive));
    tokio::pin!(transfer);
    let within = front.config.upstream.upstream_timeout;
    let answer = tokio::select! {
        // It need not take all of it to answer.
        answer = &mut transfer => answer,
        fed = feed(front, body, send) => {
            fed?;
            let answer = timeout(within, transfer).await;
            answer.unwrap_or_else(|_| Err(Setback::late(WHAT, within)))
        }
    };
    let said = async { uploaded(answer?).await.map_err(Setback::from) };
    let said = timeout(within, said).await;
    let said = said.unwrap_or_else(|_| Err(Setback::late(WHAT, within)));
    let failed = |setback: Setback| front.upstream.failed(setback.why);
    let said = said.map_err(failed).inspect_err(|error| front.notice(&name, error))?;
    Ok(result(said, &to.path))
}

const WHAT: &str = "answering an upload";

/// Hands on a body, and says when that was all of it. Ends early where nobody takes it any more.
async fn feed(
    front: &Front,
    body: &mut Incoming,
    send: mpsc::Sender<Piece>,
) -> Result<(), FrontError> {
    let patience = front.service.wire.body_timeout;
    loop {
        let piece = next(body, patience).await.map_err(FrontError::Invalid)?;
        let is_end = matches!(piece, Piece::End);
        match timeout(patience, send.send(piece)).await {
            Ok(Ok(())) if !is_end => {}
            Ok(_) => return Ok(()),
            Err(_) => {
                let why = Trouble::TimedOut { what: "taking more of an upload", within: patience };
                return Err(front.upstream.failed(why.into()));
            }
        }
    }
}

/// What the backend says of an upload; others than ours say nothing but that it is done.
pub(super) async fn uploaded(answer: Response<Incoming>) -> Result<Uploaded, Trouble> {
    let said = take(answer.into_body(), MAX_RESPONSE_BYTES).await?;
    Ok(serde_json::from_slice(&said).unwrap_or_default())
}

/// The result of an upload that is done.
pub(super) fn result(said: Uploaded, dest: &[u8]) -> UploadResult {
    let mut warnings = said.warnings.unwrap_or_default();
    if said.written.is_none() {
        warnings.push("the backend does not count what it writes".to_owned());
    }
    UploadResult {
        written: said.written.unwrap_or_default(),
        bytes: said.bytes.unwrap_or_default(),
        skipped: said.skipped.unwrap_or_default(),
        rerooted: said.rerooted.unwrap_or_default(),
        set_id_cleared: said.set_id_cleared.unwrap_or_default(),
        dest: said.dest.unwrap_or_else(|| String::from_utf8_lossy(dest).into_owned()),
        redirected: said.redirected.unwrap_or_default(),
        warnings,
    }
}

/// Passes a download on.
pub(super) async fn download(
    front: &Front,
    caller: Caller,
    from: &Place,
    format: ArchiveFormat,
) -> Result<Packed, FrontError> {
    let name = front.name(caller, &from.id)?;
    let answer = front.begin_download(&name, &from.path, format).await?;
    let redirected = is_redirected(&answer);
    let pieces = arriving(answer.into_body(), front.service.wire.body_timeout);
    let pieces = pieces.map(|piece| piece.map_err(io::Error::other));
    Ok(Packed { redirected, body: BodyExt::boxed(StreamBody::new(pieces)) })
}

impl Front {
    async fn begin_download(
        &self,
        name: &SessionId,
        src: &[u8],
        format: ArchiveFormat,
    ) -> Result<Response<Incoming>, FrontError> {
        let path = http::download(name, src, format);
        let within = self.config.upstream.upstream_timeout;
        let begun = self.upstream.tries("beginning a download", within, |_| {
            let nothing = Empty::new().map_err(|never| match never {}).boxed();
            self.upstream.transfer(&Method::GET, &path, None, None, nothing)
        });
        begun.await.inspect_err(|error| self.notice(name, error))
    }

    /// A whole archive that fits into an answer, and whether its path was redirected.
    pub(super) async fn archive(
        &self,
        name: &SessionId,
        src: &[u8],
    ) -> Result<(Vec<u8>, bool), FrontError> {
        let most = usize::try_from(MAX_DOWNLOAD_BYTES).unwrap_or(usize::MAX);
        let answer = self.begin_download(name, src, ArchiveFormat::default()).await?;
        let redirected = is_redirected(&answer);
        let pieces = arriving(answer.into_body(), self.service.wire.body_timeout);
        tokio::pin!(pieces);
        let mut archive = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|why| self.upstream.failed(why.into()))?;
            if let Ok(data) = piece.into_data() {
                if archive.len() + data.len() > most {
                    let why = format!("the archive has more than {most} bytes");
                    return Err(FrontError::TooLarge(why));
                }
                archive.extend_from_slice(&data);
            }
        }
        Ok((archive, redirected))
    }
}

fn is_redirected(answer: &Response<Incoming>) -> bool {
    answer.headers().get(REDIRECTED).is_some_and(|value| value == "true")
}

/// An answer's body as it comes. An error, the last item, says that it is not complete.
fn arriving(
    body: Incoming,
    patience: Duration,
) -> impl Stream<Item = Result<Frame<Bytes>, Trouble>> + Send + Sync {
    unfold(Some(body), move |body| async move {
        let mut body = body?;
        match timeout(patience, body.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(Trouble::Broken(chain(&error))), None)),
            Err(_) => {
                let what = "sending more of a download";
                Some((Err(Trouble::TimedOut { what, within: patience }), None))
            }
        }
    })
}
