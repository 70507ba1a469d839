//! What becomes of each entry.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};

use super::header::{BLOCK, Kind, Member, padding};
use super::open::{Held, Opener};
use super::output::Output;
use super::sparse::{self, Run};
use super::walk::{LeftOut, Visitor, tolerate};
use super::{PackError, Packed};

/// Writes members.
pub(super) struct Writer<W: Write> {
    out: Output<W>,
    opener: Opener,
    packed: Packed,
    links: Links,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W, opener: Opener) -> Self {
        let (packed, links) = (Packed::default(), Links::default());
        Self { out: Output::new(out), opener, packed, links }
    }

    /// Writes the two blocks of zeros that end an archive.
    pub(super) fn finish(mut self) -> Result<(W, Packed), PackError> {
        self.out.zeros(2 * BLOCK)?;
        Ok((self.out.finish()?, self.packed))
    }

    fn member(&mut self, name: &[u8], stat: &FileStat, kind: Kind<'_>) -> Result<(), PackError> {
        let mode = stat.st_mode & 0o7777;
        let mtime = (stat.st_mtime, stat.st_mtime_nsec);
        self.out.put(&Member { name, kind, mode, mtime }.blocks())?;
        self.packed.members += 1;
        Ok(())
    }

    fn file(&mut self, entry: &Held, path: &[u8]) -> Result<(), PackError> {
        let stat = &entry.stat;
        if let Some(first) = self.links.get(stat) {
            let first = first.to_vec();
            return self.member(path, stat, Kind::HardLink(&first));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let file = match self.opener.read(entry) {
            Ok(file) => file,
            // What is held has not vanished: without /proc nothing can be opened at all.
            Err(errno) => match tolerate(self.opener.tree(), errno) {
                Some(LeftOut::Unreadable) => {
                    self.left_out(LeftOut::Unreadable);
                    return Ok(());
                }
                Some(LeftOut::Vanished | LeftOut::Mount) | None => {
                    return Err(PackError::of("open", path, errno));
                }
            },
        };
        let runs = if sparse::may_be(stat) {
            sparse::runs(&file, size).map_err(|errno| PackError::of("seek in", path, errno))?
        } else {
            None
        };
        match runs {
            Some(runs) => self.sparse(path, stat, &file, &runs)?,
            None => {
                self.member(path, stat, Kind::File(size))?;
                self.data(path, &file, &[Run { offset: 0, length: size }])?;
            }
        }
        self.links.remember(stat, path);
        Ok(())
    }

    fn sparse(
        &mut self,
        path: &[u8],
        stat: &FileStat,
        file: &File,
        runs: &[Run],
    ) -> Result<(), PackError> {
        let real = u64::try_from(stat.st_size).unwrap_or(0);
        let map = sparse::map(runs, real);
        let data: u64 = runs.iter().map(|run| run.length).sum();
        let stored = data + map.len() as u64;
        self.member(path, stat, Kind::Sparse { stored, real })?;
        self.out.put(&map)?;
        self.data(path, file, runs)
    }

    /// Writes parts of a file one after the other, and fills up the last block. Where the file
    /// is shorter than it was, zeros take the place of what is missing: its header is out.
    fn data(&mut self, path: &[u8], file: &File, runs: &[Run]) -> Result<(), PackError> {
        let total = runs.iter().map(|run| run.length).sum();
        self.out.reserve(total)?;
        for run in runs {
            let mut done = 0;
            while done < run.length {
                let room = self.out.room()?;
                let left = usize::try_from(run.length - done).unwrap_or(usize::MAX);
                let most = room.len().min(left);
                match file.read_at(&mut room[..most], run.offset + done) {
                    Ok(0) => {
                        self.out.zeros(run.length - done)?;
                        done = run.length;
                    }
                    Ok(count) => {
                        self.out.took(count);
                        done += count as u64;
                    }
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) => {
                        let errno = err.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                        return Err(PackError::of("read", path, errno));
                    }
                }
            }
        }
        self.packed.bytes += total;
        self.out.zeros(padding(total))
    }
}

impl<W: Write> Visitor for Writer<W> {
    fn opener(&mut self) -> &mut Opener {
        &mut self.opener
    }

    fn visit(&mut self, entry: &Held, path: &[u8]) -> Result<(), PackError> {
        let kind = entry.kind();
        if kind == SFlag::S_IFDIR {
            self.member(path, &entry.stat, Kind::Directory)
        } else if kind == SFlag::S_IFREG {
            self.file(entry, path)
        } else if kind == SFlag::S_IFLNK {
            // readlinkat(2): of the link itself, where the name is empty.
            let target = readlinkat(&entry.handle, "")
                .map_err(|errno| PackError::of("read the link", path, errno))?;
            self.member(path, &entry.stat, Kind::Symlink(target.as_bytes()))
        } else {
            self.packed.skipped += 1;
            Ok(())
        }
    }

    fn left_out(&mut self, why: LeftOut) {
        match why {
            LeftOut::Vanished => {}
            LeftOut::Mount => self.packed.skipped += 1,
            LeftOut::Unreadable => self.packed.unreadable += 1,
        }
    }
}

/// Files with several names, and the one under which each is in the archive. Where there are
/// too many to be remembered, the rest are stored again under each name.
#[derive(Default)]
pub(super) struct Links {
    names: HashMap<(nix::libc::dev_t, nix::libc::ino_t), Box<[u8]>>,
    memory: usize,
}

impl Links {
    /// Bytes that they take at most.
    const MEMORY: usize = 16 * 1024 * 1024;

    /// What each takes besides its name, roughly.
    const OVERHEAD: usize = 64;

    pub(super) fn get(&self, stat: &FileStat) -> Option<&[u8]> {
        if stat.st_nlink < 2 {
            return None;
        }
        self.names.get(&(stat.st_dev, stat.st_ino)).map(AsRef::as_ref)
    }

    pub(super) fn remember(&mut self, stat: &FileStat, name: &[u8]) {
        let takes = name.len() + Self::OVERHEAD;
        if stat.st_nlink > 1 && self.memory + takes <= Self::MEMORY {
            self.memory += takes;
            self.names.insert((stat.st_dev, stat.st_ino), name.into());
        }
    }
}
