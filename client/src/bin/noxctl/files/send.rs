//! Packs what is here and sends it: in one line where it is small, otherwise packed by one
//! thread while another one sends.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use noxrunner_archive::{PackError, Packed};
use noxrunner_client::{Connection, TransferError, Transfers};
use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::Uploaded;
use noxrunner_protocol::method::FileUpload;
use noxrunner_protocol::types::{UploadParams, UploadResult};

use super::FileError;
use super::channel::channel;
use super::items::{Item, Size, pack};
use crate::error::CliError;
use crate::progress::Progress;
use crate::render::Out;

/// Largest archive that goes in a line, in bytes: as base64 it fits there well.
const IN_A_LINE: usize = 2 * 1024 * 1024;

/// An archive that goes in a line, if it is as small as it seemed.
pub(super) fn small(items: &[Item], size: Size) -> Result<Option<(Vec<u8>, Packed)>, CliError> {
    if size.bytes > IN_A_LINE as u64 {
        return Ok(None);
    }
    match pack(Bounded(Vec::new()), items) {
        Ok((Bounded(archive), packed)) => Ok(Some((archive, packed))),
        // It grew meanwhile, or has long names.
        Err(PackError::Output(_)) => Ok(None),
        Err(error) => Err(FileError::from(error).into()),
    }
}

/// Sends an archive in a line.
pub(super) fn line(
    daemon: &mut Connection,
    session_id: &SessionId,
    dest: &[u8],
    archive: &[u8],
) -> Result<UploadResult, CliError> {
    let (dest, dest_base64) = wire_path(dest);
    let (session_id, archive) = (session_id.clone(), STANDARD.encode(archive));
    let params = UploadParams { session_id, archive, dest, dest_base64 };
    Ok(daemon.call::<FileUpload>(&params)?)
}

/// Packs and sends at the same time, compressed where the way is long. Where packing fails the
/// daemon sees an archive that is cut off and keeps nothing of it.
pub(super) fn stream(
    transfers: &Transfers,
    session_id: &SessionId,
    dest: &[u8],
    items: &[Item],
    compressed: bool,
    progress: Progress,
) -> Result<(Uploaded, Packed), CliError> {
    let (writer, reader) = channel();
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || -> Result<Packed, PackError> {
            let (writer, packed) = match compressed {
                false => pack(writer, items)?,
                true => {
                    let encoder = GzEncoder::new(writer, Compression::fast());
                    let (encoder, packed) = pack(encoder, items)?;
                    (encoder.finish().map_err(PackError::Output)?, packed)
                }
            };
            writer.end().map_err(PackError::Output)?;
            Ok(packed)
        });
        let mut counted = Counted { inner: reader, progress };
        let sent = transfers.upload(session_id, dest, &mut counted);
        // The packing ends where nobody reads.
        drop(counted);
        let packed = packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (sent, packed) {
            (Ok(result), Ok(packed)) => Ok((result, packed)),
            (Ok(_), Err(_)) => {
                let early = "it came before the end of the archive".to_owned();
                Err(TransferError::BadAnswer(early).into())
            }
            (Err(TransferError::Source(_)), Err(error)) => Err(FileError::from(error).into()),
            (Err(error), _) => Err(error.into()),
        }
    })
}

/// Sends an archive that somebody else packed.
pub(super) fn forward(
    transfers: &Transfers,
    session_id: &SessionId,
    dest: &[u8],
    archive: impl Read,
    progress: Progress,
) -> Result<Uploaded, CliError> {
    let mut counted = Counted { inner: archive, progress };
    transfers.upload(session_id, dest, &mut counted).map_err(|error| match error {
        TransferError::Source(e) => CliError::Stdin(e),
        TransferError::Connect(_)
        | TransferError::Refused(_)
        | TransferError::Io(_)
        | TransferError::Closed
        | TransferError::BadAnswer(_)
        | TransferError::Remote(_)
        | TransferError::Stopped => error.into(),
    })
}

/// Says on standard error what is not where it was asked to be.
pub(super) fn remark(out: &Out, result: &Uploaded, left_out: u64) {
    if left_out > 0 {
        out.warn(&format!("{left_out} left out: named pipes, sockets or devices"));
    }
    if result.redirected == Some(true) {
        let instead = result.dest.as_deref().unwrap_or("its workspace");
        out.warn(&format!("the destination leads out of the sandbox: {instead} instead"));
    }
    result.warnings.iter().flatten().for_each(|warning| out.warn(warning));
}

/// A path as text where it is some, otherwise as base64.
pub(super) fn wire_path(path: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(path) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(path))),
    }
}

/// As many bytes as go in a line, not one more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > IN_A_LINE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows how much was read.
struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.progress.advance(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_is_no_longer_small() {
        let mut bounded = Bounded(vec![0; IN_A_LINE - 1]);
        bounded.write_all(b"x").unwrap();
        assert!(bounded.write_all(b"x").is_err());
    }

    #[test]
    fn a_path_that_is_not_utf8_travels_as_base64() {
        assert_eq!(wire_path(b"a"), (Some("a".to_owned()), None));
        assert_eq!(wire_path(b"a\xff"), (None, Some("Yf8=".to_owned())));
    }
}
