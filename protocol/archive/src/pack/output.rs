//! The stream, in large pieces.

use std::io::Write;

use super::PackError;

/// Bytes that are written at once.
const PIECE: usize = 256 * 1024;

/// Collects headers and small files, so that each is not a write of its own. Contents are read
/// right into it: every byte is copied once by read(2) and once by write(2).
pub(super) struct Output<W: Write> {
    to: W,
    buffer: Box<[u8]>,
    filled: usize,
}

impl<W: Write> Output<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, buffer: vec![0; PIECE].into_boxed_slice(), filled: 0 }
    }

    /// Appends bytes.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), PackError> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
        }
        Ok(())
    }

    /// Appends zeros.
    pub(super) fn zeros(&mut self, mut count: u64) -> Result<(), PackError> {
        while count > 0 {
            let room = self.room()?;
            let now = room.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            room[..now].fill(0);
            self.filled += now;
            count -= now as u64;
        }
        Ok(())
    }

    /// Where the next bytes go; never empty.
    pub(super) fn room(&mut self) -> Result<&mut [u8], PackError> {
        if self.filled == self.buffer.len() {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    /// Says that the first `count` bytes of the room have been filled.
    pub(super) fn took(&mut self, count: usize) {
        self.filled = self.buffer.len().min(self.filled + count);
    }

    /// Makes sure that so many bytes have room in one piece, if they fit in one at all: a large
    /// file is then read in whole pieces, at offsets that are multiples of its pages.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), PackError> {
        if bytes > (self.buffer.len() - self.filled) as u64 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), PackError> {
        self.to.write_all(&self.buffer[..self.filled]).map_err(PackError::Output)?;
        self.filled = 0;
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<W, PackError> {
        self.flush()?;
        Ok(self.to)
    }
}
