//! Newline-delimited framing: bytes in, lines out. It waits for nothing and knows no socket.

use crate::limits;

/// Takes bytes as they come and gives the lines in them.
///
/// Blank lines are skipped, a carriage return before the newline does not count, and
/// the last line needs no newline. It never holds more than one line of the longest
/// length and what was read together with it.
#[derive(Debug, Default)]
pub struct LineReader {
    buffer: Vec<u8>,
    // Where the search for a newline goes on, so that no byte is looked at twice.
    searched: usize,
    ended: bool,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line that is not blank, without its end.
    Whole(Vec<u8>),
    /// More than the longest length without a newline. What was read of it is forgotten: there is no
    /// telling where the next line begins, so nothing after it is to be read.
    TooLong,
}

impl LineReader {
    /// Where to read to: what is appended here was read. Has room for so many bytes.
    pub fn space(&mut self, bytes: usize) -> &mut Vec<u8> {
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
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            let end = fresh.iter().position(|b| *b == b'\n').map(|at| self.searched + at);
            let length = end.unwrap_or(self.buffer.len());
            // A carriage return before the newline does not count.
            let counted = length - usize::from(self.buffer[..length].ends_with(b"\r"));
            if counted > limits::MAX_LINE_BYTES {
                self.buffer = Vec::new();
                self.searched = 0;
                return Some(Line::TooLong);
            }
            let mut line = match end {
                Some(end) => {
                    let rest = self.buffer.split_off(end + 1);
                    std::mem::replace(&mut self.buffer, rest)
                }
                None if self.ended && length > 0 => std::mem::take(&mut self.buffer),
                None => {
                    self.searched = length;
                    return None;
                }
            };
            self.searched = 0;
            while line.last().is_some_and(|b| matches!(b, b'\n' | b'\r')) {
                line.pop();
            }
            if !line.trim_ascii().is_empty() {
                return Some(Line::Whole(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut input = LineReader::default();
        let mut lines = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            input.space(chunk.len()).extend_from_slice(chunk);
            if n + 1 == chunks.len() {
                input.end();
            }
            while let Some(line) = input.next_line() {
                match line {
                    Line::Whole(line) => lines.push(String::from_utf8(line).unwrap()),
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
        let mut line = vec![b'x'; limits::MAX_LINE_BYTES];
        assert_eq!(lines(&[&line])[0].len(), limits::MAX_LINE_BYTES);
        line.push(b'x');
        assert_eq!(lines(&[&line]), ["too long"]);
    }
}
