//! Reading and writing a file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstatat};
use nix::unistd::{Gid, Uid, fchown};
use noxrunner_protocol::limits::{MAX_READ_BYTES_BASE64, MAX_READ_BYTES_UTF8};
use noxrunner_protocol::types::{Encoding, FileContent, FileWritten};

use super::FileError;
use super::places::{LastLink, Missing, Places, kind, open_file, shown};
use super::staging::Staging;
use crate::policy::Inside;

/// Permission bits of a file that is new and was given none.
const NEW_FILE: u32 = 0o644;

/// The name of a file while it is staged.
const STAGED: &str = "file";

/// Which part of a file to read, and how to give it back.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Where to begin, in bytes.
    pub offset: u64,
    /// How many bytes at most.
    pub length: Option<u64>,
    /// How they are written in the answer.
    pub encoding: Encoding,
}

/// Reads a range of a regular file.
///
/// # Errors
/// Where it cannot be had, or the range is longer than an answer.
pub fn read(places: &Places<'_>, inside: &Inside, range: Range) -> Result<FileContent, FileError> {
    let most = match range.encoding {
        Encoding::Utf8 => MAX_READ_BYTES_UTF8,
        Encoding::Base64 => MAX_READ_BYTES_BASE64,
    };
    let length = range.length.unwrap_or(most);
    if length > most {
        return Err(FileError::Invalid(format!(
            "length is at most {most} with this encoding, not {length}: read the file in ranges"
        )));
    }
    let path = shown(inside);
    let held = places.hold(inside, LastLink::Follow)?;
    let file = File::from(open_file(&held, OFlag::O_RDONLY, &path)?);
    let failed = |e| of_io("read", &path, &e);
    let mut bytes = Vec::new();
    read_range(&file, range.offset, length, &mut bytes).map_err(failed)?;
    // Asked for afterwards: a file that grew meanwhile has not ended.
    let size = file.metadata().map_err(failed)?.len();
    let end = |bytes: &[u8]| range.offset.saturating_add(bytes.len() as u64);
    if range.encoding == Encoding::Utf8 && end(&bytes) < size {
        bytes.truncate(whole_characters(&bytes));
    }
    let eof = end(&bytes) >= size;
    let read = bytes.len() as u64;
    let data = match range.encoding {
        Encoding::Utf8 => String::from_utf8(bytes)
            .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        Encoding::Base64 => STANDARD.encode(&bytes),
    };
    let (encoding, redirected) = (range.encoding, inside.redirected());
    Ok(FileContent { data, encoding, bytes: read, size, eof, redirected })
}

fn read_range(file: &File, offset: u64, length: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    // Sized by what is there, not by what was asked for.
    let there = file.metadata()?.len().saturating_sub(offset).min(length);
    bytes.resize(usize::try_from(there).unwrap_or(usize::MAX), 0);
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(())
}

/// How many bytes there are without a last character that is cut in two. All
/// of them, where that would be nothing: a reader must get on.
pub(crate) fn whole_characters(bytes: &[u8]) -> usize {
    // UTF-8 has at most four bytes a character (RFC 3629), so three are the most of a cut one.
    let earliest = bytes.len().saturating_sub(3).max(1);
    let is_cut = |at: &usize| {
        let rest = std::str::from_utf8(&bytes[*at..]);
        rest.is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
    };
    (earliest..bytes.len()).find(is_cut).unwrap_or(bytes.len())
}

/// What a file is to have in it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Its permission bits, where the caller names them.
    pub mode: Option<u32>,
    /// Whether to add to what is there.
    pub append: bool,
}

/// Writes a file. It is replaced whole, with a link or a special file in its place, unless it is appended to.
///
/// # Errors
/// Why not; then it is as it was.
pub fn write(
    places: &Places<'_>,
    inside: &Inside,
    content: Content<'_>,
) -> Result<FileWritten, FileError> {
    if let Some(mode) = content.mode.filter(|mode| *mode > 0o777) {
        return Err(FileError::Invalid(format!(
            "mode is at most 511 (octal 0777), not {mode}: JSON has no octal, 420 is 0644"
        )));
    }
    let redirected = inside.redirected();
    if content.append {
        match append(places, inside, content) {
            Err(FileError::NotFound(_)) => {}
            appended => return Ok(FileWritten { size: appended?, redirected }),
        }
    }
    replace(places, inside, content)?;
    Ok(FileWritten { size: content.data.len() as u64, redirected })
}

fn replace(places: &Places<'_>, inside: &Inside, content: Content<'_>) -> Result<(), FileError> {
    let path = shown(inside);
    let (parent, name) = places.hold_parent(inside, Missing::Make)?;
    let mode = match fstatat(&parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if kind(&stat) == SFlag::S_IFDIR => return Err(FileError::IsADirectory(path)),
        Ok(stat) if kind(&stat) == SFlag::S_IFREG => stat.st_mode & 0o777,
        Ok(_) | Err(Errno::ENOENT) => NEW_FILE,
        Err(errno) => return Err(FileError::of("look at", &path, errno)),
    };
    let staging = Staging::new(places.sandbox)?;
    let created = create(staging.fd());
    let mut file = created.map_err(|errno| FileError::of("create", &path, errno))?;
    file.write_all(content.data).map_err(|e| of_io("write", &path, &e))?;
    let finish = || {
        if let Some(uid) = places.owner {
            fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
        }
        fchmod(&file, Mode::from_bits_truncate(content.mode.unwrap_or(mode)))?;
        renameat(staging.fd(), OsStr::new(STAGED), &parent, name.as_os_str())
    };
    finish().map_err(|errno| FileError::of("write", &path, errno))
}

fn create(staging: BorrowedFd<'_>) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(staging, STAGED, flags, Mode::from_bits_truncate(0o600)).map(File::from)
}

/// Adds to a file that exists, and gives its size.
fn append(places: &Places<'_>, inside: &Inside, content: Content<'_>) -> Result<u64, FileError> {
    let path = shown(inside);
    let held = places.hold(inside, LastLink::Follow)?;
    let mut file = File::from(open_file(&held, OFlag::O_WRONLY | OFlag::O_APPEND, &path)?);
    let failed = |step| {
        let path = path.clone();
        move |e: io::Error| of_io(step, &path, &e)
    };
    let before = file.metadata().map_err(failed("look at"))?.len();
    if let Err(error) = file.write_all(content.data) {
        // What fitted is no use to anybody.
        let _ = file.set_len(before);
        return Err(failed("write")(error));
    }
    if let Some(mode) = content.mode {
        let mode = Mode::from_bits_truncate(mode);
        fchmod(file.as_fd(), mode).map_err(|e| FileError::of("set the mode of", &path, e))?;
    }
    Ok(file.metadata().map_err(failed("look at"))?.len())
}

fn of_io(step: &'static str, path: &str, error: &io::Error) -> FileError {
    FileError::of(step, path, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_cut_is_left_to_the_next_range() {
        for (bytes, whole) in [
            (&b"abc"[..], 3),
            ("aé".as_bytes(), 3),
            (&"aé".as_bytes()[..2], 1),
            (&"a日".as_bytes()[..3], 1),
            (&"a😀".as_bytes()[..4], 1),
            // Not cut but wrong: it stays, to be replaced.
            (b"a\xff", 2),
            (b"a\xffb", 3),
            (b"\xff\xc3", 1),
            (b"a\x80\x80\x80\x80", 5),
            // Nothing else is there: it must be given away.
            (b"\xc3", 1),
            (b"", 0),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }
}
