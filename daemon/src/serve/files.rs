//! The methods about files, each verified, converted and handed off.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noxrunner_protocol::limits::{MAX_DOWNLOAD_BYTES, MAX_READ_BYTES_BASE64, MAX_READ_BYTES_UTF8};
use noxrunner_protocol::method::{
    FileDownload, FileListAll, FileMkdir, FileRead, FileRemove, FileRename, FileStatOne,
    FileUpload, FileWrite,
};
use noxrunner_protocol::types::{
    DownloadParams, DownloadResult, Encoding, FileChanged, FileContent, FileList, FileMkdirParams,
    FilePathParams, FileReadParams, FileRemoveParams, FileRenameParams, FileStat, FileWriteParams,
    FileWritten, UploadParams, UploadResult,
};

use super::rpc::{Builder, Caller};
use crate::daemon::Daemon;
use crate::error::CallError;
use crate::files::{archive, change, content, entries};
use crate::policy::PathUse;

type Outcome<T> = Result<T, CallError>;

/// What `dest`, `src` and a list's `path` are where they are left out.
pub(super) const WORKSPACE: &[u8] = b"/workspace";

/// Adds these methods.
#[must_use]
pub fn add(builder: Builder<Daemon>) -> Builder<Daemon> {
    builder
        .heavy_method::<FileRead, _, _, _>(most_read, |read| read.data.len(), read)
        .method::<FileWrite, _, _, _>(write)
        .heavy_method::<FileListAll, _, _, _>(|_| usize::MAX, listed, list)
        .method::<FileStatOne, _, _, _>(stat)
        .method::<FileMkdir, _, _, _>(mkdir)
        .method::<FileRemove, _, _, _>(remove)
        .method::<FileRename, _, _, _>(rename)
        .method::<FileUpload, _, _, _>(upload)
        .heavy_method::<FileDownload, _, _, _>(|_| usize::MAX, |sent| sent.archive.len(), download)
}

/// What a read gives at most, in bytes.
fn most_read(params: &FileReadParams) -> usize {
    let most = match params.encoding {
        Encoding::Utf8 => MAX_READ_BYTES_UTF8,
        Encoding::Base64 => MAX_READ_BYTES_BASE64 / 3 * 4,
    };
    usize::try_from(params.length.map_or(most, |length| most.min(length))).unwrap_or(usize::MAX)
}

/// What a list takes, about, in bytes.
fn listed(list: &FileList) -> usize {
    list.entries.len() * 128
}

async fn read(daemon: Arc<Daemon>, caller: Caller, params: FileReadParams) -> Outcome<FileContent> {
    let path = needed("path", params.path, params.path_base64)?;
    let FileReadParams { offset, length, encoding, .. } = params;
    let range = content::Range { offset, length, encoding };
    let read = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        content::read(places, &places.decide(&path, PathUse::File)?, range)
    });
    read.await
}

async fn write(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: FileWriteParams,
) -> Outcome<FileWritten> {
    let path = needed("path", params.path, params.path_base64)?;
    let data = match params.encoding {
        Encoding::Utf8 => params.data.into_bytes(),
        Encoding::Base64 => decode("data", &params.data)?,
    };
    let (mode, append) = (params.mode, params.append);
    let written = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        let content = content::Content { data: &data, mode, append };
        content::write(places, &places.decide(&path, PathUse::File)?, content)
    });
    written.await
}

async fn list(daemon: Arc<Daemon>, caller: Caller, params: FilePathParams) -> Outcome<FileList> {
    let path = given("path", params.path, params.path_base64)?;
    let path = path.unwrap_or_else(|| WORKSPACE.to_vec());
    let listed = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        entries::list(places, &places.decide(&path, PathUse::Directory)?)
    });
    listed.await
}

async fn stat(daemon: Arc<Daemon>, caller: Caller, params: FilePathParams) -> Outcome<FileStat> {
    let path = given("path", params.path, params.path_base64)?;
    let path = path.unwrap_or_else(|| WORKSPACE.to_vec());
    let described = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        entries::stat(places, &places.decide(&path, PathUse::File)?)
    });
    described.await
}

async fn mkdir(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: FileMkdirParams,
) -> Outcome<FileChanged> {
    let path = needed("path", params.path, params.path_base64)?;
    let made = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        change::mkdir(places, &places.decide(&path, PathUse::File)?, params.parents)
    });
    made.await
}

async fn remove(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: FileRemoveParams,
) -> Outcome<FileChanged> {
    let path = needed("path", params.path, params.path_base64)?;
    let removed = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        change::remove(places, &places.decide(&path, PathUse::File)?, params.recursive)
    });
    removed.await
}

async fn rename(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: FileRenameParams,
) -> Outcome<FileChanged> {
    let from = needed("from", params.from, params.from_base64)?;
    let to = needed("to", params.to, params.to_base64)?;
    let renamed = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        let from = places.decide(&from, PathUse::File)?;
        change::rename(places, &from, &places.decide(&to, PathUse::File)?)
    });
    renamed.await
}

async fn upload(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: UploadParams,
) -> Outcome<UploadResult> {
    let dest = given("dest", params.dest, params.dest_base64)?;
    let dest = dest.unwrap_or_else(|| WORKSPACE.to_vec());
    let packed = decode("archive", &params.archive)?;
    let limits = daemon.policy.upload_limits();
    let uploaded = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        let dest = places.decide(&dest, PathUse::Directory)?;
        archive::upload(places, &dest, &mut Cursor::new(packed), limits)
    });
    uploaded.await
}

async fn download(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: DownloadParams,
) -> Outcome<DownloadResult> {
    let src = given("src", params.src, params.src_base64)?;
    let src = src.unwrap_or_else(|| WORKSPACE.to_vec());
    let downloaded = daemon.with_files(caller.peer.uid, &params.session_id, move |places| {
        let source = archive::find(places, &places.decide(&src, PathUse::Directory)?)?;
        let packed = archive::download_at_most(&source, MAX_DOWNLOAD_BYTES)?;
        let (archive, redirected) = (STANDARD.encode(packed), source.redirected);
        Ok(DownloadResult { archive, src: source.path, redirected })
    });
    downloaded.await
}

/// The bytes of a path that must be given, one way or the other.
fn needed(name: &str, text: Option<String>, base64: Option<String>) -> Outcome<Vec<u8>> {
    given(name, text, base64)?
        .ok_or_else(|| CallError::Invalid(format!("give {name} or {name}Base64")))
}

/// The bytes of a path that may be given, one way or the other.
fn given(name: &str, text: Option<String>, base64: Option<String>) -> Outcome<Option<Vec<u8>>> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            Err(CallError::Invalid(format!("give {name} or {name}Base64, not both")))
        }
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => decode(&format!("{name}Base64"), &base64).map(Some),
        (None, None) => Ok(None),
    }
}

fn decode(name: &str, base64: &str) -> Outcome<Vec<u8>> {
    STANDARD.decode(base64).map_err(|e| CallError::Invalid(format!("{name} is not base64: {e}")))
}
