//! Archives as params and results of JSON-RPC, in base64.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Bytes;
use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::{self, TAR};
use noxrunner_protocol::types::{DownloadParams, DownloadResult, UploadParams, UploadResult};
use tokio::time::timeout;

use super::Front;
use super::answer::Setback;
use super::error::FrontError;
use super::stream::{result, uploaded};
use crate::serve::rpc::Caller;

type Outcome<T> = Result<T, FrontError>;

/// What `dest` and `src` are where they are left out.
const WORKSPACE: &[u8] = b"/workspace";

/// `file.upload`.
pub(super) async fn upload(
    front: Arc<Front>,
    caller: Caller,
    params: UploadParams,
) -> Outcome<UploadResult> {
    let dest = given("dest", params.dest, params.dest_base64)?;
    let archive = Bytes::from(decode("archive", &params.archive)?);
    let name = front.name(caller, &params.session_id)?;
    front.unpack(&name, &dest, archive).await
}

impl Front {
    /// Has the backend unpack an archive.
    pub(super) async fn unpack(
        &self,
        name: &SessionId,
        dest: &[u8],
        archive: Bytes,
    ) -> Outcome<UploadResult> {
        let path = http::upload(name, dest);
        let length = Some(archive.len() as u64);
        let body = Full::new(archive).map_err(|never| match never {}).boxed();
        let within = self.config.upstream.upstream_timeout;
        let said = timeout(within, async {
            let post = &Method::POST;
            let answer = self.upstream.transfer(post, &path, Some(TAR), length, body).await?;
            uploaded(answer).await.map_err(Setback::from)
        });
        let said = said.await.unwrap_or_else(|_| Err(Setback::late("an upload", within)));
        let said = said.map_err(|setback| self.upstream.failed(setback.why));
        Ok(result(said.inspect_err(|error| self.notice(name, error))?, dest))
    }
}

/// `file.download`.
pub(super) async fn download(
    front: Arc<Front>,
    caller: Caller,
    params: DownloadParams,
) -> Outcome<DownloadResult> {
    let src = given("src", params.src, params.src_base64)?;
    let name = front.name(caller, &params.session_id)?;
    let (archive, redirected) = front.archive(&name, &src).await?;
    Ok(DownloadResult {
        archive: STANDARD.encode(archive),
        src: String::from_utf8_lossy(&src).into_owned(),
        redirected,
    })
}

/// The bytes of a path, one way or the other; the workspace without one.
pub(super) fn given(name: &str, text: Option<String>, base64: Option<String>) -> Outcome<Vec<u8>> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            Err(FrontError::Invalid(format!("give {name} or {name}Base64, not both")))
        }
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(base64)) => decode(&format!("{name}Base64"), &base64),
        (None, None) => Ok(WORKSPACE.to_vec()),
    }
}

pub(super) fn decode(name: &str, base64: &str) -> Outcome<Vec<u8>> {
    STANDARD.decode(base64).map_err(|e| FrontError::Invalid(format!("{name} is not base64: {e}")))
}
