//! The next number of a range, on disk. A file that is missing or says nothing
//! sensible means the beginning: what is in use is passed over anyway.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::{UidError, UidRange};

#[derive(Debug)]
pub(super) struct Counter {
    dir: PathBuf,
    file: PathBuf,
    range: UidRange,
}

impl Counter {
    pub(super) fn new(dir: &Path, range: UidRange) -> Self {
        let file = dir.join(format!("uids-{}", range.first()));
        Self { dir: dir.to_owned(), file, range }
    }

    pub(super) fn read(&self) -> Result<u32, UidError> {
        let opened =
            OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&self.file);
        let mut text = String::new();
        match opened.and_then(|file| file.take(64).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.kind() == io::ErrorKind::InvalidData => text.clear(),
            Err(e) => return Err(self.error(e)),
        }
        let next = text.strip_suffix('\n').and_then(|text| text.parse().ok());
        Ok(next.filter(|uid| self.range.contains(*uid)).unwrap_or(self.range.first()))
    }

    /// Writes it whole, renames it into place, and has the disk keep it.
    pub(super) fn write(&self, next: u32) -> Result<(), UidError> {
        let new = self.file.with_extension("new");
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(O_NOFOLLOW)
                .open(&new)?;
            writeln!(file, "{next}")?;
            file.sync_all()?;
            fs::rename(&new, &self.file)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|e| self.error(e))
    }

    fn error(&self, error: io::Error) -> UidError {
        UidError::Io(self.file.clone(), error)
    }
}
