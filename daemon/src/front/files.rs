//! Files, by what the backend's API has: commands that look, archives that bring.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use nix::libc;
use noxrunner_protocol::limits::{MAX_READ_BYTES_BASE64, MAX_READ_BYTES_UTF8};
use noxrunner_protocol::types::{
    Encoding, FileChanged, FileContent, FileEntry, FileMkdirParams, FilePathParams, FileReadParams,
    FileStat, FileType, FileWriteParams, FileWritten,
};
use noxrunner_protocol::{ErrorKind, SessionId};
use tar::{EntryType, Header};

use super::Front;
use super::archives::{decode, given};
use super::error::FrontError;
use super::shell::RemotePath;
use crate::clock::rfc3339_nanos;
use crate::files::content::whole_characters;
use crate::serve::rpc::Caller;

type Outcome<T> = Result<T, FrontError>;

/// Type and permissions (hexadecimal), size and time of what is at `$1`, then where it leads, if it
/// is a link.
const LOOK: &str = r#"[ -e "$1" ] || [ -h "$1" ] || { echo none; exit 0; }
stat -c '%f %s %Y' -- "$1" || exit 1
[ ! -h "$1" ] || readlink -- "$1""#;

/// The size of the file `$1`, then `$3` bytes of it from the `$2`th on, counted from one. What is no
/// file is not opened: a pipe would never end.
const READ: &str = r#"[ -e "$1" ] || { echo none; exit 0; }
[ -f "$1" ] || { echo other; exit 0; }
stat -L -c %s -- "$1" && tail -c "+$2" -- "$1" | head -c "$3" | base64"#;

/// How much one command reads: in base64 it fits into what a command may print.
const READ_AT_ONCE: u64 = 512 * 1024;

/// Permission bits of what is new and was given none.
const NEW: u32 = 0o644;

/// `file.stat`.
pub(super) async fn stat(
    front: Arc<Front>,
    caller: Caller,
    params: FilePathParams,
) -> Outcome<FileStat> {
    let path = RemotePath::new(&given("path", params.path, params.path_base64)?)?;
    let name = front.name(caller, &params.session_id)?;
    match front.look(&name, &path).await? {
        Some(entry) => Ok(FileStat { entry, redirected: false }),
        None => Err(missing(&path)),
    }
}

/// `file.read`. What is read at once may be less than was asked for.
pub(super) async fn read(
    front: Arc<Front>,
    caller: Caller,
    params: FileReadParams,
) -> Outcome<FileContent> {
    let path = RemotePath::new(&needed(params.path, params.path_base64)?)?;
    let name = front.name(caller, &params.session_id)?;
    let FileReadParams { offset, length, encoding, .. } = params;
    let most = match encoding {
        Encoding::Utf8 => MAX_READ_BYTES_UTF8,
        Encoding::Base64 => MAX_READ_BYTES_BASE64,
    };
    if let Some(length) = length.filter(|length| *length > most) {
        let why = format!("length is at most {most} with this encoding, not {length}");
        return Err(FrontError::Invalid(why));
    }
    let length = length.unwrap_or(most).min(READ_AT_ONCE);
    let range = [offset.saturating_add(1), length];
    let printed = front.script(&name, READ, &path, range).await?;
    let (size, data) = printed.split_once('\n').unwrap_or((&printed, ""));
    match size {
        "none" => return Err(missing(&path)),
        "other" => return Err(conflict(format!("{} is not a file", path.absolute()))),
        _ => {}
    }
    let lines: String = data.split_ascii_whitespace().collect();
    let (Ok(size), Ok(mut bytes)) = (size.parse::<u64>(), STANDARD.decode(lines)) else {
        return Err(front.garbled(&printed));
    };
    let end = |bytes: &[u8]| offset.saturating_add(bytes.len() as u64);
    if encoding == Encoding::Utf8 && end(&bytes) < size {
        bytes.truncate(whole_characters(&bytes));
    }
    Ok(FileContent {
        encoding,
        bytes: bytes.len() as u64,
        size,
        eof: end(&bytes) >= size,
        redirected: false,
        data: match encoding {
            Encoding::Utf8 => String::from_utf8_lossy(&bytes).into_owned(),
            Encoding::Base64 => STANDARD.encode(&bytes),
        },
    })
}

/// `file.write`, but for adding to a file.
pub(super) async fn write(
    front: Arc<Front>,
    caller: Caller,
    params: FileWriteParams,
) -> Outcome<FileWritten> {
    if params.append {
        return Err(FrontError::Unsupported("file.write with append"));
    }
    let path = RemotePath::new(&needed(params.path, params.path_base64)?)?;
    let name = front.name(caller, &params.session_id)?;
    let data = match params.encoding {
        Encoding::Utf8 => params.data.into_bytes(),
        Encoding::Base64 => decode("data", &params.data)?,
    };
    if let Some(mode) = params.mode.filter(|mode| *mode > 0o777) {
        return Err(FrontError::Invalid(format!("mode is at most 511 (octal 0777), not {mode}")));
    }
    let there = front.look(&name, &path).await?;
    let (kind, mode) = there.map_or((None, None), |entry| (Some(entry.kind), Some(entry.mode)));
    if kind == Some(FileType::Directory) {
        return Err(conflict(format!("{} is a directory", path.absolute())));
    }
    let kept = mode.filter(|_| kind == Some(FileType::File)).map(|mode| mode & 0o777);
    let mode = params.mode.or(kept).unwrap_or(NEW);
    let redirected = front.bring(&name, &path, EntryType::Regular, mode, &data).await?;
    Ok(FileWritten { size: data.len() as u64, redirected })
}

/// `file.mkdir`.
pub(super) async fn mkdir(
    front: Arc<Front>,
    caller: Caller,
    params: FileMkdirParams,
) -> Outcome<FileChanged> {
    let path = RemotePath::new(&needed(params.path, params.path_base64)?)?;
    let name = front.name(caller, &params.session_id)?;
    match front.look(&name, &path).await? {
        Some(entry) if params.parents && entry.kind == FileType::Directory => {
            return Ok(FileChanged { redirected: false });
        }
        Some(_) => return Err(conflict(format!("{} exists", path.absolute()))),
        None => {}
    }
    if !params.parents
        && let Some((parent, _)) = path.split()
        && front.look(&name, &parent).await?.is_none()
    {
        return Err(missing(&parent));
    }
    let redirected = front.bring(&name, &path, EntryType::Directory, 0o755, &[]).await?;
    Ok(FileChanged { redirected })
}

impl Front {
    /// What is at a path, a link itself.
    async fn look(&self, name: &SessionId, path: &RemotePath) -> Outcome<Option<FileEntry>> {
        let printed = self.script(name, LOOK, path, [0; 2]).await?;
        let (line, target) = printed.split_once('\n').unwrap_or((&printed, ""));
        if line == "none" {
            return Ok(None);
        }
        let entry = entry(path.name(), line, target);
        entry.map(Some).ok_or_else(|| self.garbled(&printed))
    }

    /// Has the backend unpack one entry. Says whether it was redirected.
    async fn bring(
        &self,
        name: &SessionId,
        path: &RemotePath,
        kind: EntryType,
        mode: u32,
        data: &[u8],
    ) -> Outcome<bool> {
        let Some((parent, last)) = path.split() else {
            return Err(conflict(format!("{} is a directory", path.absolute())));
        };
        let archive = packed(last, kind, mode, data)
            .map_err(|e| FrontError::Invalid(format!("{last:?} cannot be packed: {e}")))?;
        let dest = parent.absolute();
        Ok(self.unpack(name, dest.as_bytes(), Bytes::from(archive)).await?.redirected)
    }
}

/// An archive of one entry.
fn packed(name: &str, kind: EntryType, mode: u32, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    header.set_mtime(now.as_secs());
    let mut archive = tar::Builder::new(Vec::with_capacity(data.len() + 4096));
    archive.append_data(&mut header, name, data)?;
    archive.into_inner()
}

/// An entry, from what `stat -c '%f %s %Y'` and readlink(1) print of it.
fn entry(name: &str, line: &str, target: &str) -> Option<FileEntry> {
    let mut words = line.split(' ');
    let mode = u32::from_str_radix(words.next()?, 16).ok()?;
    let size = words.next()?.parse().ok()?;
    let seconds: u64 = words.next()?.parse().ok()?;
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::Fifo,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::File,
    };
    let target = target.strip_suffix('\n').unwrap_or(target);
    Some(FileEntry {
        name: name.to_owned(),
        name_base64: None,
        kind,
        size,
        mode: mode & 0o7777,
        modified_at: rfc3339_nanos(UNIX_EPOCH + Duration::from_secs(seconds)),
        target: (kind == FileType::Symlink).then(|| target.to_owned()),
        target_base64: None,
    })
}

fn needed(text: Option<String>, base64: Option<String>) -> Outcome<Vec<u8>> {
    if text.is_none() && base64.is_none() {
        return Err(FrontError::Invalid("give path or pathBase64".to_owned()));
    }
    given("path", text, base64)
}

fn missing(path: &RemotePath) -> FrontError {
    FrontError::Refused {
        kind: ErrorKind::FileNotFound,
        message: format!("there is no {}", path.absolute()),
        hint: None,
    }
}

fn conflict(message: String) -> FrontError {
    FrontError::Refused { kind: ErrorKind::Conflict, message, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stat_prints_is_understood() {
        let file = entry("f", "81a4 12 1700000000", "").unwrap();
        assert_eq!((file.kind, file.mode, file.size), (FileType::File, 0o644, 12));
        assert_eq!(file.modified_at, "2023-11-14T22:13:20.000000000Z");
        let link = entry("l", "a1ff 3 0", "a\nb\n").unwrap();
        assert_eq!((link.kind, link.target.as_deref()), (FileType::Symlink, Some("a\nb")));
        assert_eq!(entry("d", "41ed 1 1", "").unwrap().kind, FileType::Directory);
        for bad in ["", "x 1 1", "81a4", "81a4 1", "81a4 -1 1", "81a4 1 x"] {
            assert_eq!(entry("f", bad, ""), None, "{bad}");
        }
    }

    #[test]
    fn one_entry_is_an_archive() {
        let long = "x".repeat(200);
        let archive = packed(&long, EntryType::Regular, 0o600, b"data").unwrap();
        let mut archive = tar::Archive::new(&archive[..]);
        let entries: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries.len(), 1);
        let header = entries[0].header();
        assert_eq!(entries[0].path().unwrap().to_str(), Some(long.as_str()));
        assert_eq!((header.mode().unwrap(), header.size().unwrap()), (0o600, 4));
    }
}
