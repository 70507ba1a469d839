//! Moving one entry.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::cursor::{Cursor, entry_name, kind_of, list, look};

/// Moves a file or link, in the place of one that is there already; `EISDIR` if a directory is.
pub(super) fn file(
    staged: BorrowedFd<'_>,
    name: &[u8],
    stat: &FileStat,
    dest: BorrowedFd<'_>,
) -> nix::Result<()> {
    renameat(staged, name, dest, name)?;
    if stat.st_nlink > 1 {
        // Between two names of one file rename(2) does nothing, and somebody may have given
        // the destination this name for a file that was moved before.
        match unlinkat(staged, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Moves a directory to where there is none. Should there be one by now, it is replaced if it
/// is empty, and an error if it is not (rename(2)).
pub(super) fn directory(
    staged: &mut Cursor<'_>,
    name: &[u8],
    stat: &FileStat,
    dest: BorrowedFd<'_>,
) -> nix::Result<()> {
    let marked = stat.st_mode & Mode::S_ISVTX.bits() != 0;
    if stat.st_mode & 0o700 == 0o700 && !marked {
        return renameat(staged.here(), name, dest, name);
    }
    // A directory that gets another `..` must itself be writable (rename(2)).
    staged.enter(name)?;
    if marked {
        unmark(staged)?;
    }
    let held = staged.depart()?;
    renameat(staged.here(), name, dest, name)?;
    held.map_or(Ok(()), |(dir, meta)| meta.in_place().apply(dir.as_fd()))
}

/// Takes the marks off everything in the directory that the cursor is in.
fn unmark(staged: &mut Cursor<'_>) -> nix::Result<()> {
    let mut todo = vec![marked_in(staged.here())?];
    while let Some(names) = todo.last_mut() {
        if let Some(name) = names.pop() {
            staged.enter(&name)?;
            todo.push(marked_in(staged.here())?);
            continue;
        }
        todo.pop();
        if !todo.is_empty()
            && let Some(meta) = staged.meta()
        {
            staged.set_meta(meta.in_place());
            staged.leave()?;
        }
    }
    Ok(())
}

fn marked_in(dir: BorrowedFd<'_>) -> nix::Result<Vec<Vec<u8>>> {
    let mut marked = Vec::new();
    for entry in list(dir)?.iter() {
        let Some(name) = entry_name(entry)? else { continue };
        let is_marked = |stat: &FileStat| {
            kind_of(stat) == SFlag::S_IFDIR && stat.st_mode & Mode::S_ISVTX.bits() != 0
        };
        if look(dir, &name)?.as_ref().is_some_and(is_marked) {
            marked.push(name);
        }
    }
    Ok(marked)
}
