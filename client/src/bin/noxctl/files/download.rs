//! Files of a sandbox to this machine.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use noxrunner_archive::Report;
use noxrunner_protocol::http::ArchiveFormat;
use serde::Serialize;

use super::FileError;
use super::receive::{
    Arriving, Shape, extract, failed, notice_interrupts, print, save, stopped_by,
};
use crate::cli::{self, DownloadArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::interrupt;
use crate::progress::Progress;
use crate::render::Out;

/// What `--json` says of a download.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Downloaded {
    /// What was asked for.
    pub(super) src: String,
    /// The file the archive was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<String>,
    /// The directory it was unpacked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extract: Option<String>,
    /// Bytes that arrived.
    pub(super) bytes: u64,
    /// Whether `src` was outside and replaced by the workspace.
    pub(super) redirected: bool,
    #[serde(flatten)]
    pub(super) unpacked: Option<Unpacked>,
}

/// What became of an archive that was unpacked.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Unpacked {
    written: u64,
    skipped: u64,
    rerooted: u64,
    set_id_cleared: u64,
}

impl From<Report> for Unpacked {
    fn from(report: Report) -> Self {
        let skipped = report.skipped_links + report.skipped_special;
        let Report { written, rerooted, set_id_cleared, .. } = report;
        Self { written, skipped, rerooted, set_id_cleared }
    }
}

impl Downloaded {
    /// Says on standard error what is not as it was asked for.
    pub(super) fn remark(&self, out: &Out) {
        if out.json {
            return;
        }
        let Some(unpacked) = &self.unpacked else { return };
        for (count, what) in [
            (unpacked.skipped, "left out: links that lead out, devices and the like"),
            (unpacked.rerooted, "with a path that leads out: written by their last name"),
            (unpacked.set_id_cleared, "lost a set-user-id, set-group-id or sticky bit"),
        ] {
            if count > 0 {
                out.warn(&format!("{count} {what}"));
            }
        }
    }
}

/// `download`.
pub(crate) fn download(context: &Context<'_>, args: &DownloadArgs) -> Result<u8, CliError> {
    let src = args.src.as_os_str().as_bytes();
    let mut downloaded =
        Downloaded { src: args.src.to_string_lossy().into_owned(), ..Default::default() };
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && context.out.json {
        return Err(cli::usage("download", "the archive and the JSON would mix: name a file"));
    }
    // A pipe that is full waits for its reader, and leaves nothing that is to be removed.
    if to_stdout {
        interrupt::exit_at_once();
    }
    let format = match args.output {
        Some(_) => ArchiveFormat::TarGz,
        None => ArchiveFormat::Tar,
    };
    let interrupt = notice_interrupts()?;
    let transfers = stopped_by(context.transfers()?, &interrupt)?;
    let begun = transfers.download(&args.session_id, src, format).map_err(failed)?;
    downloaded.redirected = begun.redirected;
    let mut arriving = Arriving::new(begun, &interrupt, Progress::new(context.out, None));
    let done = match &args.output {
        Some(_) if to_stdout => {
            print(&mut arriving)?;
            None
        }
        Some(output) => {
            save(&mut arriving, output)?;
            downloaded.output = Some(output.to_string_lossy().into_owned());
            Some(format!("Downloaded to {}", output.display()))
        }
        None => {
            let into = args.extract.clone().unwrap_or_else(|| PathBuf::from("."));
            downloaded.unpacked = Some(unpack(&mut arriving, &into)?.into());
            downloaded.extract = Some(into.to_string_lossy().into_owned());
            Some(format!("Extracted to {}", into.display()))
        }
    };
    downloaded.bytes = arriving.bytes;
    // The line of the progress makes room for what is said now.
    drop(arriving);
    if downloaded.redirected && !context.out.json {
        let src = &downloaded.src;
        context.out.warn(&format!("{src} leads out of the sandbox: its workspace instead"));
    }
    downloaded.remark(context.out);
    if let Some(done) = done {
        context.out.result(&downloaded, || context.out.success(&done))?;
    }
    Ok(0)
}

/// Unpacks into a directory that is made if it is missing, and removed again if nothing comes of it.
fn unpack(arriving: &mut Arriving<'_>, into: &Path) -> Result<Report, CliError> {
    let missing: Vec<&Path> = into
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err())
        .collect();
    let unpacked = fs::create_dir_all(into)
        .map_err(|e| FileError::local("make", into)(e).into())
        .and_then(|()| extract(arriving, into, &Shape::Contents));
    if unpacked.is_err() {
        // One that somebody has put something into meanwhile stays.
        missing.iter().take_while(|path| fs::remove_dir(path).is_ok()).for_each(drop);
    }
    unpacked
}
