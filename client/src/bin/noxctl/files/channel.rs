//! From a thread that writes to one that reads, with a bounded number of buffers between
//! them that go round: an archive is packed while it is sent.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel as unbounded, sync_channel};

/// Bytes of one buffer.
const BUFFER_BYTES: usize = 128 * 1024;

/// Full buffers that may wait.
const WAITING: usize = 4;

/// The two ends.
pub(super) fn channel() -> (ChannelWriter, ChannelReader) {
    let (full, fulls) = sync_channel(WAITING);
    let (empty, empties) = unbounded();
    let writer = ChannelWriter { full, empties, buffer: Vec::with_capacity(BUFFER_BYTES) };
    (writer, ChannelReader { fulls, empty, buffer: Vec::new(), at: 0, ended: false })
}

/// The end that is written to.
pub(super) struct ChannelWriter {
    full: SyncSender<Vec<u8>>,
    empties: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

impl ChannelWriter {
    /// Says that this is all. A writer that is only dropped was cut off.
    ///
    /// # Errors
    /// `BrokenPipe` where nobody reads the last of it any more.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.flush()?;
        // An empty buffer is the end; whoever stopped reading before it had everything.
        let _ = self.full.send(Vec::new());
        Ok(())
    }
}

impl Write for ChannelWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == BUFFER_BYTES {
            self.flush()?;
        }
        let room = BUFFER_BYTES - self.buffer.len();
        let (fitting, _) = bytes.split_at(room.min(bytes.len()));
        self.buffer.extend_from_slice(fitting);
        Ok(fitting.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let next = self.empties.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER_BYTES));
        let full = std::mem::replace(&mut self.buffer, next);
        self.full.send(full).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// The end that is read.
pub(super) struct ChannelReader {
    fulls: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for ChannelReader {
    /// # Errors
    /// `UnexpectedEof` where the writer was cut off.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() && !self.ended {
            let next = self.fulls.recv().map_err(|_| io::ErrorKind::UnexpectedEof)?;
            self.ended = next.is_empty();
            let mut used = std::mem::replace(&mut self.buffer, next);
            self.at = 0;
            used.clear();
            // A writer that has ended needs none.
            let _ = self.empty.send(used);
        }
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let (fitting, _) = rest.split_at(into.len().min(rest.len()));
        into[..fitting.len()].copy_from_slice(fitting);
        self.at += fitting.len();
        Ok(fitting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (mut writer, mut reader) = channel();
        let bytes: Vec<u8> = (0..3 * BUFFER_BYTES + 1).map(|i| (i % 251) as u8).collect();
        let sent = bytes.clone();
        let thread = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.end().unwrap();
        });
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        thread.join().unwrap();
        assert!(read == bytes);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn neither_end_takes_the_others_failure_for_an_end() {
        let (mut writer, mut reader) = channel();
        writer.write_all(b"half").unwrap();
        writer.flush().unwrap();
        drop(writer);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (mut writer, reader) = channel();
        drop(reader);
        let error = writer.write_all(&vec![0; 2 * BUFFER_BYTES]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
