//! Files of a sandbox, and archives in and out.
//!
//! Wherever a path is taken, the same name with `Base64` behind it may stand
//! instead, for what is not UTF-8. Paths outside the sandbox are redirected to
//! the workspace, and the answer says so.

use serde::{Deserialize, Serialize};

use super::Encoding;
use crate::ids::SessionId;

/// Params of `file.read`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_read_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileReadParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The file, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Where to begin, in bytes.
    #[serde(default)]
    pub offset: u64,
    /// How many bytes to read at most: up to 1 MiB as text, 4 MiB as base64,
    /// which is also what is read where this is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// How `data` is written in the answer.
    #[serde(default)]
    pub encoding: Encoding,
}

/// Result of `file.read`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_content.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileContent {
    /// What was read.
    pub data: String,
    /// How `data` is written.
    pub encoding: Encoding,
    /// How many bytes of the file `data` stands for: the next range begins at
    /// `offset + bytes`. As text, a character that is cut in two is left to the next range.
    pub bytes: u64,
    /// The size of the whole file, in bytes.
    pub size: u64,
    /// Whether the file ends with what was read.
    pub eof: bool,
    /// Whether the path was outside and replaced by one in the workspace.
    pub redirected: bool,
}

/// Params of `file.write`. The file appears whole or not at all, unless it is appended to.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_write_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileWriteParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// The file. Directories on the way are made; a link in its place is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The file, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// What to write.
    pub data: String,
    /// How `data` is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// Permission bits, at most 511 (octal 0777), since JSON has no octal: 493
    /// is 0755. Without it a file that exists keeps its own, and a new one gets 420 (0644).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether to add to the end of a file that exists; a link that stays inside is then followed.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub append: bool,
}

/// Result of `file.write`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_written.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileWritten {
    /// The file's size afterwards, in bytes.
    pub size: u64,
    /// Whether the path was outside and replaced by one in the workspace.
    pub redirected: bool,
}

/// Params of `file.list` and `file.stat`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_path_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FilePathParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// The file or directory; the workspace where neither this nor `pathBase64` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The same, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

/// What an entry of a directory is.
///
/// ```json
/// "file"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; nothing is said of what it leads to.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// One entry of a directory, a link itself and not what it leads to.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_entry.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileEntry {
    /// Its last name; bytes that are not UTF-8 became replacement characters.
    pub name: String,
    /// Its last name as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_base64: Option<String>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Its size, in bytes.
    pub size: u64,
    /// Its permission bits with set-id and sticky ones, as a number: 420 is octal 0644.
    pub mode: u32,
    /// When it was last written, in RFC 3339 with nanoseconds, UTC.
    pub modified_at: String,
    /// Where a link leads, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The same as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_base64: Option<String>,
}

/// Result of `file.list`, sorted by the bytes of the names.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_list.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileList {
    /// What is in the directory.
    pub entries: Vec<FileEntry>,
    /// Whether the path was outside and replaced by the workspace.
    pub redirected: bool,
}

/// Result of `file.stat`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_stat.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileStat {
    /// What is there.
    #[serde(flatten)]
    pub entry: FileEntry,
    /// Whether the path was outside and replaced by one in the workspace.
    pub redirected: bool,
}

/// Params of `file.mkdir`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_mkdir_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileMkdirParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// The directory to make, with mode 0755.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The same, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Whether to make those above it too, and to take one that is there for made.
    #[serde(default = "yes")]
    pub parents: bool,
}

/// Params of `file.remove`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_remove_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileRemoveParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// What to remove; of a link, the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The same, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Whether a directory may have something in it.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub recursive: bool,
}

/// Params of `file.rename`, which replaces a file or link at `to` as rename(2) does.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_rename_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileRenameParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// What to rename; of a link, the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The same, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_base64: Option<String>,
    /// Its new path, in a directory that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The same, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_base64: Option<String>,
}

/// Result of `file.mkdir`, `file.remove` and `file.rename`.
///
#[doc = concat!("```json\n", include_str!("../../golden/file_changed.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct FileChanged {
    /// Whether a path was outside and replaced by one in the workspace.
    pub redirected: bool,
}

/// Params of `file.upload`. What is longer than a line goes over HTTP, on the same socket.
///
#[doc = concat!("```json\n", include_str!("../../golden/upload_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct UploadParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// A tar archive, gzip or plain, as base64.
    pub archive: String,
    /// The directory it is unpacked into, made where it is missing; the workspace
    /// where neither this nor `destBase64` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// The same, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_base64: Option<String>,
}

/// Result of an upload: all of the archive is in place, but for what is counted here.
///
#[doc = concat!("```json\n", include_str!("../../golden/upload_result.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct UploadResult {
    /// How many members were written.
    pub written: u64,
    /// How many bytes of files.
    pub bytes: u64,
    /// How many members were left out: links that lead out, devices, named pipes.
    pub skipped: u64,
    /// How many with an absolute path, or with `..` in it, were put into the destination by their last name.
    pub rerooted: u64,
    /// How many files lost a set-user-id or set-group-id bit.
    pub set_id_cleared: u64,
    /// Where it was unpacked, as the sandbox names it.
    pub dest: String,
    /// Whether `dest` was outside and replaced by the workspace.
    pub redirected: bool,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Params of `file.download`.
///
#[doc = concat!("```json\n", include_str!("../../golden/download_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct DownloadParams {
    /// The sandbox.
    pub session_id: SessionId,
    /// A directory, or a file; the workspace where neither this nor `srcBase64` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// The same, as base64 of its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src_base64: Option<String>,
}

/// Result of `file.download`. What does not fit into an answer goes over HTTP, on the same socket.
///
#[doc = concat!("```json\n", include_str!("../../golden/download_result.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct DownloadResult {
    /// A gzip-compressed tar archive as base64. Names in it are relative to a directory `src`.
    pub archive: String,
    /// What was packed, as the sandbox names it.
    pub src: String,
    /// Whether `src` was outside and replaced by the workspace.
    pub redirected: bool,
}

fn yes() -> bool {
    true
}
