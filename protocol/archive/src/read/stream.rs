//! The bytes of an archive, unpacked and counted.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::BLOCK;
use super::member::adds_up;
use crate::StageError;

/// Bytes that are read at once, and written at once where a file is that large. Pipes hold
/// 64 KiB by default (pipe(7)); beyond this size nothing is gained.
const BUFFER: usize = 256 * 1024;

/// What unaligned writes would cost the page cache.
const PAGE: u64 = 4096;

/// How a gzip stream begins (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The input, with its first block put back. Remembers its own failure, which the unpacker
/// above it would mix up with failures of its own.
struct Source<'a> {
    input: &'a mut dyn Read,
    head: Box<[u8; BLOCK]>,
    head_at: usize,
    head_end: usize,
    /// Bytes that may still come.
    left: u64,
    failure: Option<Failure>,
}

enum Failure {
    Input(io::Error),
    TooLarge,
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(head) = self.head.get(self.head_at..self.head_end)
            && !head.is_empty()
        {
            let count = head.len().min(into.len());
            into.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
            self.head_at += count;
            return Ok(count);
        }
        match retried(self.input, into) {
            Ok(count) if count as u64 > self.left => {
                self.failure = Some(Failure::TooLarge);
                Err(io::Error::other("too large"))
            }
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => {
                let stand_in = io::Error::from(error.kind());
                self.failure = Some(Failure::Input(error));
                Err(stand_in)
            }
        }
    }
}

fn retried(input: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

enum Origin<'a> {
    Plain(Box<Source<'a>>),
    Gzip(Box<MultiGzDecoder<BufReader<Source<'a>>>>),
}

/// An archive's bytes.
pub(crate) struct Stream<'a> {
    origin: Origin<'a>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes unpacked so far.
    unpacked: u64,
    limit: u64,
}

impl<'a> Stream<'a> {
    /// The bytes of `input`, unpacked if they are compressed by gzip, at most `limit`.
    pub(crate) fn open(input: &'a mut dyn Read, limit: u64) -> Result<Self, StageError> {
        let mut head = Box::new([0; BLOCK]);
        let mut head_end = 0;
        while let Some(into) = head.get_mut(head_end..)
            && !into.is_empty()
        {
            match retried(input, into).map_err(StageError::Input)? {
                0 => break,
                count => head_end += count,
            }
        }
        if head_end == 0 {
            return Err(StageError::Truncated("it is empty"));
        }
        // The name of a plain archive's first member may begin in the same way.
        let is_plain = head_end == BLOCK && adds_up(&head);
        let is_gzip = !is_plain && head.starts_with(&GZIP_MAGIC);
        let mut source =
            Source { input, head, head_at: 0, head_end, left: u64::MAX, failure: None };
        let origin = if is_gzip {
            // Empty gzip members, as many as one likes, unpack to nothing: what is compressed
            // has a bound, too, with more to spare than deflate can add (RFC 1951, 3.2.4).
            source.left = limit.saturating_add(limit / 64).saturating_add(64 * 1024);
            let buffered = BufReader::with_capacity(64 * 1024, source);
            Origin::Gzip(Box::new(MultiGzDecoder::new(buffered)))
        } else {
            Origin::Plain(Box::new(source))
        };
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Ok(Self { origin, buffer, start: 0, end: 0, unpacked: 0, limit })
    }

    /// Reads into the buffer's end, at most `most` bytes; 0 at the end of the stream.
    fn read_more(&mut self, most: usize) -> Result<usize, StageError> {
        // One byte beyond the bound tells what is too large from what is just as large.
        let allowed = usize::try_from(self.limit - self.unpacked).unwrap_or(BUFFER);
        let room = (self.buffer.len() - self.end).min(most).min(allowed.saturating_add(1));
        let into = self.buffer.get_mut(self.end..self.end + room).unwrap_or_default();
        let done = match &mut self.origin {
            Origin::Plain(source) => source.read(into),
            Origin::Gzip(decoder) => decoder.read(into),
        };
        let count = done.map_err(|error| self.failed(&error))?;
        self.end += count;
        if count > allowed {
            return Err(StageError::TooLarge { limit: self.limit });
        }
        self.unpacked += count as u64;
        Ok(count)
    }

    /// Whose error it was.
    fn failed(&mut self, error: &io::Error) -> StageError {
        let source = match &mut self.origin {
            Origin::Plain(source) => source,
            Origin::Gzip(decoder) => decoder.get_mut().get_mut(),
        };
        match source.failure.take() {
            Some(Failure::Input(error)) => StageError::Input(error),
            Some(Failure::TooLarge) => StageError::TooLarge { limit: self.limit },
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                StageError::Truncated("its gzip stream ends early")
            }
            None => StageError::Damaged(format!("its gzip stream is invalid: {error}")),
        }
    }

    /// Fills `block`; nothing where the stream ends before its first byte, and an error that
    /// says `place` where it ends within.
    pub(super) fn block(
        &mut self,
        block: &mut [u8; BLOCK],
        place: &'static str,
    ) -> Result<Option<()>, StageError> {
        if self.end - self.start < BLOCK {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < BLOCK {
                if self.read_more(BUFFER)? == 0 {
                    return if self.end == 0 {
                        Ok(None)
                    } else {
                        Err(StageError::Truncated(place))
                    };
                }
            }
        }
        if let Some(from) = self.buffer.get(self.start..self.start + BLOCK) {
            block.copy_from_slice(from);
        }
        self.start += BLOCK;
        Ok(Some(()))
    }

    /// Fills `block`, which the stream may not end before.
    pub(super) fn exactly(
        &mut self,
        block: &mut [u8; BLOCK],
        place: &'static str,
    ) -> Result<(), StageError> {
        self.block(block, place)?.ok_or(StageError::Truncated(place))
    }

    /// Takes between one and `most` bytes that are to be at `offset` in a file. `most` is not 0.
    pub(super) fn take(
        &mut self,
        most: u64,
        offset: u64,
        place: &'static str,
    ) -> Result<&[u8], StageError> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            // So much that the next write begins on a page.
            let past = usize::try_from(offset % PAGE).unwrap_or(0);
            let wanted = most.min(BUFFER - past);
            while self.end < wanted && self.read_more(wanted - self.end)? != 0 {}
            if self.end == 0 {
                return Err(StageError::Truncated(place));
            }
        }
        let from = self.start;
        self.start += (self.end - from).min(most);
        Ok(self.buffer.get(from..self.start).unwrap_or_default())
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, mut count: u64, place: &'static str) -> Result<(), StageError> {
        while count > 0 {
            count -= self.take(count, 0, place)?.len() as u64;
        }
        Ok(())
    }

    /// Reads to the end of the stream, so that a checksum at its end is looked at, too.
    pub(super) fn drain(&mut self) -> Result<(), StageError> {
        loop {
            self.start = 0;
            self.end = 0;
            if self.read_more(BUFFER)? == 0 {
                return Ok(());
            }
        }
    }
}
