//! Files of this machine into a sandbox.

use std::os::unix::ffi::OsStrExt;

use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::Uploaded;

use super::items::{Item, look, measure, named};
use super::{FileError, send};
use crate::cli::UploadArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::interrupt;
use crate::progress::Progress;

/// `upload`.
pub(crate) fn upload(context: &Context<'_>, args: &UploadArgs) -> Result<u8, CliError> {
    let items = match &args.dir {
        Some(dir) if !look(dir)?.is_dir() => {
            return Err(FileError::NotADirectory(dir.clone()).into());
        }
        Some(dir) => vec![Item::Contents { dir: dir.clone(), prefix: Vec::new() }],
        None => named(&args.files)?,
    };
    let (result, files) = put(context, &args.session_id, args.dest.as_os_str().as_bytes(), &items)?;
    context.out.result(&result, || {
        let dest = result.dest.as_deref().unwrap_or_default();
        context.out.success(&format!("Uploaded {files} file(s) to {dest}"))
    })?;
    Ok(0)
}

/// Sends what is to be sent and says what became of it. Also gives how many files arrived.
pub(super) fn put(
    context: &Context<'_>,
    session_id: &SessionId,
    dest: &[u8],
    items: &[Item],
) -> Result<(Uploaded, u64), CliError> {
    // The daemon keeps nothing of an upload whose connection closes.
    interrupt::exit_at_once();
    let size = measure(items);
    if let ([Item::Contents { dir, .. }], 0) = (items, size.entries) {
        return Err(FileError::Nothing(dir.clone()).into());
    }
    // Before the connection is opened: a daemon does not wait long for a request.
    let small = match &context.backend {
        Some(_) => None,
        None => send::small(items, size)?,
    };
    let (mut result, packed) = match small {
        Some((archive, packed)) => {
            let sent = send::line(&mut context.connect()?, session_id, dest, &archive)?;
            (sent.into(), packed)
        }
        None => {
            let transfers = context.transfers()?;
            let progress = Progress::new(context.out, Some(size.bytes));
            let compressed = context.backend.is_some();
            send::stream(&transfers, session_id, dest, items, compressed, progress)?
        }
    };
    // A backend that does not say more has put it where it was told to.
    result.dest.get_or_insert_with(|| String::from_utf8_lossy(dest).into_owned());
    if !context.out.json {
        send::remark(context.out, &result, packed.skipped);
    }
    let files = size.files.saturating_sub(result.skipped.unwrap_or_default());
    Ok((result, files))
}
