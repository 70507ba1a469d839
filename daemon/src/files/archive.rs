//! A tree in or out. What comes in is staged and looked at whole before anything
//! is moved into place; what goes out is read by descriptors, entry by entry.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::stat::{SFlag, fstat};
use noxrunner_archive::{Packed, Packer, Report, Rules, Tree, merge, stage, stays_beneath};
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::types::UploadResult;

use super::FileError;
use super::places::{LastLink, Missing, Places, kind, shown};
use super::staging::Staging;
use crate::policy::{Inside, PathUse};

pub use noxrunner_archive::Limits;

/// How hard a download is compressed: as little as saves anything, since most go to this very machine.
const EFFORT: Compression = Compression::fast();

/// Unpacks a tar archive, plain or compressed by gzip, into a directory that is made where it is missing.
///
/// # Errors
/// Why not. Unless somebody inside put something in the way at the last moment, nothing has changed then.
pub fn upload(
    places: &Places<'_>,
    dest: &Inside,
    input: &mut dyn Read,
    limits: Limits,
) -> Result<UploadResult, FileError> {
    let staging = Staging::new(places.sandbox)?;
    let link_stays = |dir: &[u8], target: &[u8]| link_stays(places, dest, dir, target);
    let rules = Rules { limits, owner: places.owner, link_stays: &link_stays };
    let report = stage(input, staging.fd(), &rules)?;
    let (into, _) = places.make_directory(dest)?;
    merge(staging.fd(), into.as_fd())?;
    Ok(UploadResult {
        written: report.written,
        bytes: report.bytes,
        skipped: report.skipped_links + report.skipped_special,
        rerooted: report.rerooted,
        set_id_cleared: report.set_id_cleared,
        dest: shown(dest),
        redirected: dest.redirected(),
        warnings: warnings(&report),
    })
}

/// Whether a link in a directory below the destination stays in the sandbox.
fn link_stays(places: &Places<'_>, dest: &Inside, dir: &[u8], target: &[u8]) -> bool {
    if stays_beneath(dir, target) {
        return true;
    }
    // Steps up that come later may start from where another link leads, which no word says.
    let mut steps = target.split(|byte| *byte == b'/').filter(|step| !matches!(*step, b"" | b"."));
    if steps.by_ref().skip_while(|step| *step == b"..").any(|step| step == b"..") {
        return false;
    }
    let mut path = Vec::new();
    if target.starts_with(b"/") {
        if !places.names.means_own(target) {
            return false;
        }
    } else {
        path = dest.display_path();
        path.push(b'/');
        path.extend_from_slice(dir);
        path.push(b'/');
    }
    path.extend_from_slice(target);
    places.decide(&path, PathUse::Directory).is_ok_and(|leads_to| !leads_to.redirected())
}

fn warnings(report: &Report) -> Vec<String> {
    let counted = [
        (
            report.skipped_links,
            "link(s) left out: they lead out of the sandbox, or to what the archive does not have",
        ),
        (report.skipped_special, "device(s), named pipe(s) or the like left out"),
        (
            report.rerooted,
            "member(s) put into the destination by their last name: they were absolute, or had `..` in them",
        ),
        (report.set_id_cleared, "file(s) written without their set-id or sticky bits"),
    ];
    let said = counted.into_iter().filter(|(n, _)| *n > 0);
    said.map(|(n, what)| format!("{n} {what}")).collect()
}

/// What a download is of: found, and not yet read.
#[derive(Debug)]
pub struct Source {
    /// Its path as the sandbox names it.
    pub path: String,
    /// Whether another one was asked for, outside.
    pub redirected: bool,
    found: Found,
}

#[derive(Debug)]
enum Found {
    /// A directory, whose contents are packed.
    Directory(OwnedFd),
    /// A file by its name in a directory.
    File { parent: OwnedFd, name: std::ffi::OsString, as_name: Vec<u8> },
}

/// Finds what is to be downloaded.
///
/// # Errors
/// Where it does not exist, or is neither a directory nor a file.
pub fn find(places: &Places<'_>, src: &Inside) -> Result<Source, FileError> {
    let (path, redirected) = (shown(src), src.redirected());
    let held = places.hold(src, LastLink::Follow)?;
    let stat = fstat(&held).map_err(|errno| FileError::of("look at", &path, errno))?;
    let found = match kind(&stat) {
        SFlag::S_IFDIR => Found::Directory(held),
        SFlag::S_IFREG => {
            let real = places.without_links(src, LastLink::Follow)?;
            let (parent, name) = places.hold_parent(&real, Missing::Fail)?;
            let as_name = src.rest().file_name().map_or(name.as_bytes(), OsStr::as_bytes).to_vec();
            Found::File { parent, name, as_name }
        }
        _ => return Err(FileError::NotAFile(path)),
    };
    Ok(Source { path, redirected, found })
}

/// Packs what was found.
///
/// # Errors
/// Why the archive is not complete.
pub fn download(
    source: &Source,
    format: ArchiveFormat,
    out: impl Write,
) -> Result<Packed, FileError> {
    match format {
        ArchiveFormat::Tar => Ok(pack(source, out)?.1),
        ArchiveFormat::TarGz => {
            let (gzip, packed) = pack(source, GzEncoder::new(out, EFFORT))?;
            gzip.finish().map_err(noxrunner_archive::PackError::Output)?;
            Ok(packed)
        }
    }
}

fn pack<W: Write>(source: &Source, out: W) -> Result<(W, Packed), FileError> {
    let mut packer = Packer::new(out, Tree::Sandbox);
    match &source.found {
        Found::Directory(dir) => packer.contents(dir.as_fd(), b"")?,
        Found::File { parent, name, as_name } => packer.entry(parent.as_fd(), name, as_name)?,
    }
    Ok(packer.finish()?)
}

/// Packs what was found into memory, compressed.
///
/// # Errors
/// As [`download`], and where it is more than `most` bytes.
pub fn download_at_most(source: &Source, most: u64) -> Result<Vec<u8>, FileError> {
    let mut archive = Bounded { bytes: Vec::new(), most, full: false };
    match download(source, ArchiveFormat::TarGz, &mut archive) {
        Err(_) if archive.full => Err(FileError::TooLarge { path: source.path.clone(), most }),
        done => done.map(|_| archive.bytes),
    }
}

/// Memory that takes only so many bytes.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.most {
            self.full = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
