//! The line reader: however the bytes are cut up, the lines are those of a reader that has all
//! bytes at once, and it never holds more than a line and a chunk.
//!
//! The first byte of the input says how long a line may be, the second and third how long the chunks
//! are in turn (0: all that is left), the rest is what comes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use noxrunner_protocol::framing::{Line, LineReader};

fuzz_target!(|input: &[u8]| {
    let [longest, first, second, bytes @ ..] = input else { return };
    let longest = usize::from(*longest % 64);
    let expected = all_at_once(longest, bytes);
    assert_eq!(in_chunks(longest, [usize::from(*first), usize::from(*second)], bytes), expected);
    assert_eq!(in_chunks(longest, [1, 1], bytes), expected, "byte by byte");
});

/// The lines, and `None` where one is too long, which is the last then.
type Lines = Vec<Option<Vec<u8>>>;

/// What a client may rely on, without any state.
fn all_at_once(longest: usize, bytes: &[u8]) -> Lines {
    let mut lines = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let counted = line.strip_suffix(b"\r").unwrap_or(line);
        if counted.len() > longest {
            lines.push(None);
            return lines;
        }
        if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
            lines.push(Some(counted.to_vec()));
        }
    }
    lines
}

fn in_chunks(longest: usize, sizes: [usize; 2], mut bytes: &[u8]) -> Lines {
    let mut reader = LineReader::new(longest);
    let mut lines = Vec::new();
    for size in sizes.into_iter().cycle() {
        let size = if size == 0 { bytes.len() } else { size.min(bytes.len()) };
        let (chunk, rest) = bytes.split_at(size);
        let space = reader.space(chunk.len());
        // One more for a carriage return that may not count.
        assert!(space.len() <= longest + 1, "it holds {} bytes of a line", space.len());
        assert!(space.capacity() - space.len() >= chunk.len());
        space.extend_from_slice(chunk);
        bytes = rest;
        if bytes.is_empty() {
            reader.end();
        }
        while let Some(line) = reader.next_line() {
            let line = match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong => None,
            };
            let stop = line.is_none();
            lines.push(line);
            if stop {
                assert!(reader.space(0).is_empty(), "it keeps what nobody is to read");
                return lines;
            }
        }
        if bytes.is_empty() {
            assert!(reader.has_ended());
            assert!(reader.space(0).is_empty(), "something is left");
            return lines;
        }
    }
    lines
}
