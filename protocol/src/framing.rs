//! Newline-delimited framing: bytes in, lines out. It waits for nothing and knows no socket.

use memchr::memchr;

/// Takes bytes as they come and gives the lines in them.
///
/// Blank lines are skipped, a carriage return before the newline does not count, and
/// the last line needs no newline. It never holds more than one line of the longest
/// length and what was read together with it.
#[derive(Debug)]
pub struct LineReader {
    longest: usize,
    buffer: Vec<u8>,
    // Where the next line begins: what is before it was given already.
    start: usize,
    // Where the search for a newline goes on, so that no byte is looked at twice.
    searched: usize,
    ended: bool,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line that is not blank, without its end.
    Whole(&'a [u8]),
    /// More than the longest length without a newline. What was read of it is forgotten: there is no
    /// telling where the next line begins, so nothing after it is to be read.
    TooLong,
}

/// The memory that is kept for the next line when all were given, in bytes.
const KEPT: usize = 64 * 1024;

impl LineReader {
    /// With nothing read yet. A line has at most so many bytes, its end not counted.
    pub fn new(longest: usize) -> Self {
        Self { longest, buffer: Vec::new(), start: 0, searched: 0, ended: false }
    }

    /// Where to read to: what is appended here was read. Has room for so many bytes.
    pub fn space(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.start > 0 {
            // What was given makes room: once for all lines of a read, and mostly nothing is left to move.
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
            if self.buffer.len() <= KEPT {
                self.buffer.shrink_to(KEPT);
            }
        }
        self.buffer.reserve(bytes);
        &mut self.buffer
    }

    /// Says that nothing more comes.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether [`LineReader::end`] was said.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next line, if all of it was read.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            let end = memchr(b'\n', fresh).map(|at| self.searched + at);
            let (start, length) = (self.start, end.unwrap_or(self.buffer.len()));
            // A carriage return before the newline does not count.
            let counted = length - start - usize::from(self.buffer[start..length].ends_with(b"\r"));
            if counted > self.longest {
                self.buffer = Vec::new();
                (self.start, self.searched) = (0, 0);
                return Some(Line::TooLong);
            }
            if end.is_none() && !(self.ended && length > start) {
                self.searched = length;
                return None;
            }
            self.start = end.map_or(length, |end| end + 1);
            self.searched = self.start;
            let whole = start..start + counted;
            if !self.buffer[whole.clone()].trim_ascii().is_empty() {
                return Some(Line::Whole(&self.buffer[whole]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 100;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut input = LineReader::new(LONGEST);
        let mut lines = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            input.space(chunk.len()).extend_from_slice(chunk);
            if n + 1 == chunks.len() {
                input.end();
            }
            while let Some(line) = input.next_line() {
                match line {
                    Line::Whole(line) => lines.push(std::str::from_utf8(line).unwrap().to_owned()),
                    Line::TooLong => lines.push("too long".to_owned()),
                }
            }
        }
        lines
    }

    #[test]
    fn lines_in_any_pieces() {
        assert_eq!(lines(&[b"a\n\n  \nb\r\nc"]), ["a", "b", "c"]);
        assert_eq!(lines(&[b"a", b"b", b"\nc", b"\n", b""]), ["ab", "c"]);
        assert_eq!(lines(&[b""]), [""; 0]);
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        let mut line = vec![b'x'; LONGEST];
        assert_eq!(lines(&[&line])[0].len(), LONGEST);
        line.push(b'x');
        assert_eq!(lines(&[&line]), ["too long"]);
    }

    #[test]
    fn the_memory_of_a_long_line_is_given_back() {
        let mut input = LineReader::new(1 << 20);
        input.space(1 << 20).extend_from_slice(&vec![b'x'; 1 << 20]);
        input.space(8).extend_from_slice(b"\nab");
        assert!(matches!(input.next_line(), Some(Line::Whole(line)) if line.len() == 1 << 20));
        assert_eq!(input.next_line(), None);
        input.space(8).extend_from_slice(b"c\n");
        assert!(input.buffer.capacity() <= 2 * KEPT, "{}", input.buffer.capacity());
        assert_eq!(input.next_line(), Some(Line::Whole(b"abc")));
        assert_eq!(input.next_line(), None);
    }
}
