//! What arrives: written to a file as it is, or unpacked. Whoever sent it, nothing of it gets
//! out of the directory it is meant for, and nothing is there until all of it has arrived.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use noxrunner_archive::{Limits, Report, Rules, StageError, merge, stage, stays_beneath};
use noxrunner_client::{Download, TransferError, Transfers};
use tempfile::{Builder, NamedTempFile, TempDir};

use super::FileError;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::progress::Progress;

/// How the names of what is not complete yet begin.
const TEMPORARY: &str = ".noxctl-";

/// What an archive may bring: as much as there is room for.
const LIMITS: Limits =
    Limits { bytes: u64::MAX / 2, members: 10_000_000, keep_free: 64 * 1024 * 1024 };

/// How what gzip(1) makes begins (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes that are written at once.
const PIECE_BYTES: usize = 128 * 1024;

/// An archive as it arrives.
pub(super) struct Arriving<'a> {
    download: Download,
    interrupt: &'a Interrupt,
    progress: Progress,
    /// Bytes that arrived.
    pub(super) bytes: u64,
    // What unpacks wraps errors in its own, which hides what they are.
    failure: Option<TransferError>,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(download: Download, interrupt: &'a Interrupt, progress: Progress) -> Self {
        Self { download, interrupt, progress, bytes: 0, failure: None }
    }

    /// What it means that something failed that reads from here.
    fn explain(&mut self, otherwise: impl Into<CliError>) -> CliError {
        match self.failure.take() {
            Some(failure) => failed(failure),
            None => otherwise.into(),
        }
    }

    fn not_interrupted(&self) -> Result<(), CliError> {
        if self.interrupt.came() { Err(FileError::Interrupted.into()) } else { Ok(()) }
    }
}

impl Read for Arriving<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self.interrupt.came() {
            true => Err(TransferError::Stopped),
            false => self.download.read(into).map_err(Download::failure),
        };
        match read {
            Ok(read) => {
                self.bytes += read as u64;
                self.progress.advance(read);
                Ok(read)
            }
            Err(failure) => {
                let kept = self.failure.get_or_insert(failure);
                Err(io::Error::other(kept.to_string()))
            }
        }
    }
}

/// A transfer that an interrupt stops was interrupted.
pub(super) fn failed(error: TransferError) -> CliError {
    if matches!(error, TransferError::Stopped) {
        FileError::Interrupted.into()
    } else {
        error.into()
    }
}

/// The same transfers, but an interrupt stops them.
pub(super) fn stopped_by(
    transfers: Transfers,
    interrupt: &Interrupt,
) -> Result<Transfers, CliError> {
    let wakes = interrupt.wakes().map_err(FileError::local("catch signals in", Path::new(".")))?;
    Ok(transfers.stop_when_readable(wakes))
}

/// Begins to notice interrupts.
pub(super) fn notice_interrupts() -> Result<Interrupt, CliError> {
    Ok(Interrupt::notice().map_err(FileError::local("catch signals in", Path::new(".")))?)
}

/// Writes it to standard output as it is.
pub(super) fn print(arriving: &mut Arriving<'_>) -> Result<(), CliError> {
    let mut pieces = BufReader::with_capacity(PIECE_BYTES, &mut *arriving);
    print_from(&mut pieces).map_err(|e| arriving.explain(e))
}

/// Writes it to standard output as a plain archive, which a backend does not send.
pub(super) fn print_plain(arriving: &mut Arriving<'_>) -> Result<(), CliError> {
    let mut pieces = BufReader::with_capacity(PIECE_BYTES, &mut *arriving);
    let printed = match pieces.fill_buf() {
        Ok(begin) if begin.starts_with(&GZIP) => {
            print_from(&mut BufReader::with_capacity(PIECE_BYTES, MultiGzDecoder::new(pieces)))
        }
        Ok(_) => print_from(&mut pieces),
        Err(error) => Err(FileError::from(StageError::Input(error)).into()),
    };
    printed.map_err(|e| arriving.explain(e))
}

fn print_from(from: &mut impl BufRead) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    loop {
        let damaged = |e: io::Error| FileError::from(StageError::Damaged(e.to_string()));
        let piece = from.fill_buf().map_err(damaged)?;
        if piece.is_empty() {
            return stdout.flush().map_err(CliError::Stdout);
        }
        stdout.write_all(piece).map_err(CliError::Stdout)?;
        let printed = piece.len();
        from.consume(printed);
    }
}

/// Writes it to a file, which is replaced only when all of it has arrived. What is no file,
/// such as a pipe, is written to as it is.
pub(super) fn save(arriving: &mut Arriving<'_>, path: &Path) -> Result<(), CliError> {
    // A link stands for what it leads to, also for being replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let existing = target.metadata().ok();
    if let Some(existing) = &existing
        && !existing.is_file()
    {
        let opened = File::options().write(true).open(&target);
        let mut file = opened.map_err(FileError::local("open", path))?;
        return write(arriving, &mut file, path);
    }
    let parent = directory_of(&target);
    let mut temporary = Builder::new()
        .prefix(TEMPORARY)
        // Less what the umask says, as for any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(FileError::local("make a file in", parent))?;
    write(arriving, temporary.as_file_mut(), path)?;
    arriving.not_interrupted()?;
    if let Some(existing) = existing {
        let kept = temporary.as_file().set_permissions(existing.permissions());
        kept.map_err(FileError::local("change the mode of", path))?;
    }
    let persisted = NamedTempFile::persist(temporary, &target);
    persisted.map_err(|e| FileError::local("write", path)(e.error))?;
    Ok(())
}

fn write(arriving: &mut Arriving<'_>, file: &mut File, path: &Path) -> Result<(), CliError> {
    let written = io::copy(&mut BufReader::with_capacity(PIECE_BYTES, &mut *arriving), file);
    written.map(drop).map_err(|e| arriving.explain(FileError::local("write", path)(e)))
}

/// What an archive becomes.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    /// What is in it goes into the directory.
    Contents,
    /// It is what is in a directory, which gets this name in the directory.
    Directory {
        /// The name.
        name: &'a OsStr,
        /// Permission bits that it gets if it is new.
        mode: u32,
    },
    /// It is one file or link, which gets this name in the directory.
    File {
        /// The name.
        name: &'a OsStr,
    },
}

/// Unpacks it in a private directory inside of `into`, and moves it in place when all of it
/// has arrived.
pub(super) fn extract(
    arriving: &mut Arriving<'_>,
    into: &Path,
    shape: &Shape<'_>,
) -> Result<Report, CliError> {
    let staging = Staging::make(into)?;
    let (arrived, named) = (staging.sub("arrived")?, staging.sub("named")?);
    let rules = Rules { limits: LIMITS, owner: None, link_stays: &stays_beneath };
    let open = |path: &Path| File::open(path).map_err(FileError::local("open", path));
    // It reads to the end of the stream, so that a cut after the last member is noticed, too.
    let report = match stage(arriving, open(&arrived)?.as_fd(), &rules) {
        Ok(report) => report,
        Err(error) => return Err(arriving.explain(FileError::from(error))),
    };
    let ready = match shape {
        Shape::Contents => arrived,
        Shape::Directory { name, mode } => {
            let moved = named.join(name);
            fs::rename(&arrived, &moved).map_err(FileError::local("rename", &moved))?;
            // One that is closed to its owner could not be filled or moved.
            let mode = Permissions::from_mode(mode & 0o777 | 0o700);
            fs::set_permissions(&moved, mode)
                .map_err(FileError::local("change the mode of", &moved))?;
            named
        }
        Shape::File { name } => {
            let moved = named.join(name);
            fs::rename(arrived.join(only_file(&arrived)?), &moved)
                .map_err(FileError::local("rename", &moved))?;
            named
        }
    };
    let (ready, dest) = (open(&ready)?, open(into)?);
    // From here on it is a matter of renaming, which is done to its end.
    arriving.not_interrupted()?;
    merge(ready.as_fd(), dest.as_fd()).map_err(FileError::from)?;
    Ok(report)
}

/// The name of the one file in a directory.
fn only_file(directory: &Path) -> Result<OsString, FileError> {
    let list = || -> io::Result<Vec<fs::DirEntry>> { fs::read_dir(directory)?.take(2).collect() };
    let entries = list().map_err(FileError::local("list", directory))?;
    match entries.as_slice() {
        [entry] if entry.file_type().is_ok_and(|kind| !kind.is_dir()) => Ok(entry.file_name()),
        _ => Err(FileError::NotOneFile),
    }
}

/// A directory that nobody else can reach and that goes away with all that is in it.
struct Staging(TempDir);

impl Staging {
    fn make(into: &Path) -> Result<Self, FileError> {
        Builder::new()
            .prefix(TEMPORARY)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(into)
            .map(Self)
            .map_err(FileError::local("make a directory in", into))
    }

    fn sub(&self, name: &str) -> Result<PathBuf, FileError> {
        let path = self.0.path().join(name);
        fs::create_dir(&path).map_err(FileError::local("make", &path))?;
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        open_up(self.0.path());
    }
}

/// Makes a tree removable: an archive may have directories that are closed to their owner.
/// Nobody else can put a link where a directory is seen, since nobody else can get here.
fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// The directory that a path's last name is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_staging_directory_goes_away_whatever_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::set_permissions(&kept, Permissions::from_mode(0o500)).unwrap();
        let staging = Staging::make(dir.path()).unwrap();
        assert_eq!(staging.0.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let sub = staging.sub("sub").unwrap();
        fs::create_dir(sub.join("closed")).unwrap();
        fs::write(sub.join("closed/f"), "x").unwrap();
        symlink(&kept, sub.join("link")).unwrap();
        fs::set_permissions(sub.join("closed"), Permissions::from_mode(0o000)).unwrap();
        drop(staging);
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o500);
    }

    #[test]
    fn one_file_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(only_file(dir.path()).is_err());
        symlink("x", dir.path().join("a")).unwrap();
        assert_eq!(only_file(dir.path()).unwrap(), "a");
        fs::write(dir.path().join("b"), "").unwrap();
        assert!(only_file(dir.path()).is_err());
        fs::remove_file(dir.path().join("a")).unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        assert!(matches!(only_file(dir.path()), Err(FileError::NotOneFile)));
    }
}
