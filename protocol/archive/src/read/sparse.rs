//! Maps of sparse files: which parts of a file its archive has.

use tar::{GnuExtSparseHeader, GnuHeader, GnuSparseHeader};

use super::BLOCK;
use super::number::{count, decimal};
use super::pax::SparseRecords;
use super::stream::Stream;
use crate::StageError;

/// Most parts that a file may have: 16 MB of map.
pub(super) const MAX_EXTENTS: usize = 1_000_000;

/// Most digits of a number in a map: those of 2^64.
const MAX_DIGITS: usize = 20;

/// A part of a file that is in the archive, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where it begins in the file.
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

fn damaged(what: &str) -> StageError {
    StageError::Damaged(format!("the map of a sparse file {what}"))
}

fn push(map: &mut Vec<Extent>, extent: Extent) -> Result<(), StageError> {
    if map.len() >= MAX_EXTENTS {
        return Err(damaged(&format!("has more than {MAX_EXTENTS} parts")));
    }
    map.push(extent);
    Ok(())
}

/// The map in a header of GNU tar's old format, and in the blocks after it.
pub(super) fn old_gnu(
    header: &GnuHeader,
    stream: &mut Stream<'_>,
) -> Result<Vec<Extent>, StageError> {
    let mut map = Vec::new();
    let mut more = add(&mut map, &header.sparse)? && header.is_extended();
    let mut extended = header.is_extended();
    let mut block = GnuExtSparseHeader::new();
    while extended {
        stream.exactly(block.as_mut_bytes(), "in the map of a sparse file")?;
        more = more && add(&mut map, block.sparse())?;
        extended = block.is_extended();
    }
    Ok(map)
}

/// Adds parts up to the first that is left empty; whether there was none.
fn add(map: &mut Vec<Extent>, parts: &[GnuSparseHeader]) -> Result<bool, StageError> {
    for part in parts {
        // What GNU tar ends at, too.
        if part.numbytes.first() == Some(&0) {
            return Ok(false);
        }
        match (count(&part.offset), count(&part.numbytes)) {
            (Some(offset), Some(length)) => push(map, Extent { offset, length })?,
            _ => return Err(damaged("has an invalid number")),
        }
    }
    Ok(true)
}

/// The map that pax records have, or tell to be at the beginning of the data; `left` then is
/// what is left of the data after it.
pub(super) fn pax(
    records: SparseRecords,
    stream: &mut Stream<'_>,
    left: &mut u64,
) -> Result<(Vec<Extent>, u64), StageError> {
    let real_size = records.real_size.ok_or_else(|| damaged("comes without the file's size"))?;
    match (records.major, records.minor) {
        (0, _) => {
            let announced = records.blocks.unwrap_or(records.map.len() as u64);
            if announced != records.map.len() as u64 {
                return Err(damaged("has another number of parts than announced"));
            }
            Ok((records.map, real_size))
        }
        (1, 0) => Ok((in_data(stream, left)?, real_size)),
        (major, minor) => Err(damaged(&format!("has the unknown version {major}.{minor}"))),
    }
}

/// A map of version 1.0: numbers, one a line, the first of them how many parts there are, in
/// as many blocks as they take.
fn in_data(stream: &mut Stream<'_>, left: &mut u64) -> Result<Vec<Extent>, StageError> {
    let mut lines = Lines { stream, left, block: [0; BLOCK], at: BLOCK };
    let parts = lines.number()?;
    if parts > MAX_EXTENTS as u64 {
        return Err(damaged(&format!("has more than {MAX_EXTENTS} parts")));
    }
    let mut map = Vec::new();
    for _ in 0..parts {
        map.push(Extent { offset: lines.number()?, length: lines.number()? });
    }
    Ok(map)
}

struct Lines<'s, 'a> {
    stream: &'s mut Stream<'a>,
    left: &'s mut u64,
    block: [u8; BLOCK],
    at: usize,
}

impl Lines<'_, '_> {
    fn number(&mut self) -> Result<u64, StageError> {
        let mut digits = Vec::with_capacity(MAX_DIGITS);
        loop {
            match self.byte()? {
                b'\n' => return decimal(&digits).ok_or_else(|| damaged("has an invalid number")),
                byte if digits.len() < MAX_DIGITS => digits.push(byte),
                _ => return Err(damaged("has an invalid number")),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, StageError> {
        if self.at == BLOCK {
            let rest = self.left.checked_sub(BLOCK as u64);
            *self.left = rest.ok_or_else(|| damaged("is longer than the member's data"))?;
            self.stream.exactly(&mut self.block, "in the map of a sparse file")?;
            self.at = 0;
        }
        let byte = self.block.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        Ok(byte)
    }
}

/// Whether a map can be one of a file of that size with so many bytes in the archive: its
/// parts ascend, do not overlap and are within the file.
pub(super) fn check(map: &[Extent], real_size: u64, stored: u64) -> Result<(), StageError> {
    let mut end = 0;
    let mut sum: u64 = 0;
    for extent in map {
        if extent.offset < end {
            return Err(damaged("has parts that overlap or are out of order"));
        }
        end = extent
            .offset
            .checked_add(extent.length)
            .filter(|end| *end <= real_size)
            .ok_or_else(|| damaged("has a part beyond the file's end"))?;
        // No overflow: parts do not overlap and end within the file.
        sum += extent.length;
    }
    if sum != stored {
        return Err(damaged("does not match the size of its data"));
    }
    Ok(())
}
