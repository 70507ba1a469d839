//! Where a file has data and where holes.

use std::fs::File;

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::unistd::{Whence, lseek};

use super::header::{BLOCK, padding};

/// Runs of data that a file is divided into at most; what follows the last is one run.
const MOST_RUNS: usize = 10_000;

/// Bytes of data, and where in the file they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Whether a file may have holes: it has fewer blocks, which are 512 bytes here, than it is long.
pub(super) fn may_be(stat: &FileStat) -> bool {
    allocated(stat) < u64::try_from(stat.st_size).unwrap_or(0)
}

/// Bytes allocated on disk.
pub(super) fn allocated(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK)
}

/// The data in the first `size` bytes of a file, or nothing where it has no holes in them.
pub(super) fn runs(file: &File, size: u64) -> nix::Result<Option<Vec<Run>>> {
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let Some(offset) = seek(file, at, Whence::SeekData)?.filter(|&offset| offset < size) else {
            break;
        };
        // A hole at `offset` means that somebody dug one since: still go on from there.
        let end = seek(file, offset, Whence::SeekHole)?.unwrap_or(size).clamp(offset + 1, size);
        let last = runs.len() + 1 == MOST_RUNS;
        let end = if last { size } else { end };
        runs.push(Run { offset, length: end - offset });
        at = end;
    }
    let whole = runs.first().is_some_and(|run| run.offset == 0 && run.length == size);
    Ok((!whole && size > 0).then_some(runs))
}

/// lseek(2): `ENXIO` is "no more data", or an offset beyond the end of a file that has shrunk.
fn seek(file: &File, at: u64, whence: Whence) -> nix::Result<Option<u64>> {
    let Ok(at) = i64::try_from(at) else { return Ok(None) };
    match lseek(file, at, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The map that comes before the data in GNU tar's sparse format 1.0: how many runs there are,
/// then offset and length of each, a number a line, filled up to a block. A hole at the end of
/// the file is a run without bytes there, as GNU tar writes it.
pub(super) fn map(runs: &[Run], size: u64) -> Vec<u8> {
    let to_the_end = runs.last().is_some_and(|run| run.offset + run.length == size);
    let end = (!to_the_end).then_some(Run { offset: size, length: 0 });
    let mut map = format!("{}\n", runs.len() + usize::from(end.is_some()));
    for run in runs.iter().chain(end.as_ref()) {
        map.push_str(&format!("{}\n{}\n", run.offset, run.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64) as usize, 0);
    map
}
