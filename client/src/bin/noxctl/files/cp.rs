//! Copies with the rules of docker's `cp`: to a new name, over a file, or into a directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::types::FileType;
use noxrunner_protocol::{ErrorKind, RpcError};

use super::download::Downloaded;
use super::items::{Item, look as look_here};
use super::receive::{
    Arriving, Shape, directory_of, extract, failed, notice_interrupts, print, print_plain,
    stopped_by,
};
use super::remote::{Found, RemotePath, There, last_name, look, means_contents};
use super::{FileError, send, upload};
use crate::cli::{self, CpArgs, Direction};
use crate::context::Context;
use crate::error::CliError;
use crate::interrupt;
use crate::progress::Progress;

/// `cp`.
pub(crate) fn cp(context: &Context<'_>, args: &CpArgs) -> Result<u8, CliError> {
    match args.direction()? {
        Direction::In { src: Some(src), session_id, path } => {
            copy_in(context, src, session_id, path)
        }
        Direction::In { src: None, session_id, path } => stream_in(context, session_id, path),
        Direction::Out { session_id, path, dst: Some(dst) } => {
            copy_out(context, session_id, path, dst)
        }
        Direction::Out { session_id, path, dst: None } => stream_out(context, session_id, path),
    }
}

fn copy_in(
    context: &Context<'_>,
    src: &Path,
    session_id: &SessionId,
    path: &[u8],
) -> Result<u8, CliError> {
    let metadata = look_here(src)?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(FileError::Special(src.to_owned()).into());
    }
    let typed = src.as_os_str().as_bytes();
    let contents = metadata.is_dir() && means_contents(typed);
    // Asked on a connection of its own: packing comes next, and may take its time.
    let (found, parent) = look_there(context, session_id, path)?;
    let asked = found.path.clone();
    let (dest, name) = match found.entry {
        Some(entry) if entry.kind == FileType::Directory => (entry.path, None),
        Some(_) if metadata.is_dir() || path.ends_with(b"/") => {
            return Err(FileError::RemoteNotADirectory { path: asked.show() }.into());
        }
        None if (metadata.is_file() && path.ends_with(b"/")) => {
            return Err(FileError::NoRemoteDirectory { path: asked.show() }.into());
        }
        None if !parent => {
            return Err(FileError::NoRemoteDirectory { path: asked.parent().show() }.into());
        }
        Some(_) | None => (asked.parent(), asked.name().map(<[u8]>::to_vec)),
    };
    let item = match name {
        Some(name) => Item::followed(src, &name)?,
        None if contents => Item::Contents { dir: src.to_owned(), prefix: Vec::new() },
        None => Item::followed(src, &own_name(src)?)?,
    };
    let (result, files) = upload::put(context, session_id, &dest.bytes(), &[item])?;
    context.out.result(&result, || {
        context.out.done(&format!("Copied {files} file(s) to {}", asked.show()));
        Ok(())
    })?;
    Ok(0)
}

/// The last name of what is at a local path, which may be typed as `..`.
fn own_name(src: &Path) -> Result<Vec<u8>, FileError> {
    let real = || src.canonicalize().map_err(FileError::local("find", src));
    Ok(match last_name(src) {
        Some(name) => name.to_vec(),
        None => last_name(&real()?).unwrap_or_default().to_vec(),
    })
}

/// What is at a destination, and, where nothing is, whether the directory for it is there.
fn look_there(
    context: &Context<'_>,
    session_id: &SessionId,
    path: &[u8],
) -> Result<(Found, bool), CliError> {
    let mut there = There::of(context)?;
    let found = look(&mut there, session_id, path)?;
    if found.redirected {
        warn_outside(context, &found.path);
    }
    let parent = found.path.parent();
    // What is outside becomes the workspace, which is there.
    let parent = found.entry.is_some() || {
        let parent = look(&mut there, session_id, &parent.bytes())?;
        parent.redirected || parent.entry.is_some_and(|e| e.kind == FileType::Directory)
    };
    Ok((found, parent))
}

fn warn_outside(context: &Context<'_>, instead: &RemotePath) {
    if !context.out.json {
        let instead = instead.show();
        context.out.warn(&format!("the path leads out of the sandbox: {instead} instead"));
    }
}

fn stream_in(context: &Context<'_>, session_id: &SessionId, path: &[u8]) -> Result<u8, CliError> {
    interrupt::exit_at_once();
    let found = look(&mut There::of(context)?, session_id, path)?;
    let asked = found.path.show();
    let dest = match found.entry {
        Some(entry) if entry.kind == FileType::Directory => entry.path,
        Some(_) => return Err(FileError::RemoteNotADirectory { path: asked }.into()),
        None => return Err(FileError::NoRemoteDirectory { path: asked }.into()),
    };
    let transfers = context.transfers()?;
    let progress = Progress::new(context.out, None);
    let stdin = std::io::stdin().lock();
    let result = send::forward(&transfers, session_id, &dest.bytes(), stdin, progress)?;
    if !context.out.json {
        send::remark(context.out, &result, 0);
    }
    context.out.result(&result, || {
        let entries = result.written.map(|n| format!(" {n} entries")).unwrap_or_default();
        let dest = result.dest.clone().unwrap_or_else(|| dest.show());
        context.out.done(&format!("Unpacked{entries} into {dest}"));
        Ok(())
    })?;
    Ok(0)
}

fn stream_out(context: &Context<'_>, session_id: &SessionId, path: &[u8]) -> Result<u8, CliError> {
    if context.out.json {
        return Err(cli::usage("cp", "the archive and the JSON would mix: name a file"));
    }
    interrupt::exit_at_once();
    let interrupt = notice_interrupts()?;
    let transfers = stopped_by(context.transfers()?, &interrupt)?;
    let path = RemotePath::workspace().join(path);
    let begun = transfers.download(session_id, &path.bytes(), ArchiveFormat::Tar);
    let begun = begun.map_err(failed)?;
    if begun.redirected {
        warn_outside(context, &RemotePath::workspace());
    }
    let mut arriving = Arriving::new(begun, &interrupt, Progress::new(context.out, None));
    match &context.backend {
        Some(_) => print_plain(&mut arriving)?,
        None => print(&mut arriving)?,
    }
    Ok(0)
}

fn copy_out(
    context: &Context<'_>,
    session_id: &SessionId,
    path: &[u8],
    dst: &Path,
) -> Result<u8, CliError> {
    let found = look(&mut There::of(context)?, session_id, path)?;
    let Some(entry) = found.entry else {
        let message = format!("no {} in the sandbox", found.path.show());
        let error = RpcError::new(ErrorKind::FileNotFound, message);
        return Err(noxrunner_client::CallError::Refused(error).into());
    };
    let directory = entry.kind == FileType::Directory;
    let name = found.path.name().unwrap_or(b"workspace");
    let (into, name) = place(dst, name, directory)?;
    let shape = match name {
        _ if directory && means_contents(path) && dst.is_dir() => Shape::Contents,
        _ if !directory => Shape::File { name: &name },
        _ => Shape::Directory { name: &name, mode: entry.mode },
    };
    let interrupt = notice_interrupts()?;
    let transfers = stopped_by(context.transfers()?, &interrupt)?;
    let begun = transfers.download(session_id, &entry.path.bytes(), ArchiveFormat::Tar);
    let begun = begun.map_err(failed)?;
    let mut arriving = Arriving::new(begun, &interrupt, Progress::new(context.out, None));
    let report = extract(&mut arriving, &into, &shape)?;
    let downloaded = Downloaded {
        src: found.path.show(),
        extract: Some(dst.to_string_lossy().into_owned()),
        bytes: arriving.bytes,
        redirected: found.redirected,
        unpacked: Some(report.into()),
        ..Default::default()
    };
    drop(arriving);
    if found.redirected {
        warn_outside(context, &found.path);
    }
    downloaded.remark(context.out);
    context.out.result(&downloaded, || {
        context.out.done(&format!("Copied to {}", dst.display()));
        Ok(())
    })?;
    Ok(0)
}

/// The directory here that something gets into, and its name in there.
fn place(dst: &Path, name: &[u8], directory: bool) -> Result<(PathBuf, OsString), FileError> {
    let slash = dst.as_os_str().as_bytes().ends_with(b"/");
    let name = OsString::from_vec(name.to_vec());
    match dst.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok((dst.to_owned(), name)),
        Ok(_) if directory || slash => return Err(FileError::NotADirectory(dst.to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(FileError::NotADirectory(dst.to_owned()));
        }
        Err(_) if slash && !directory => return Err(FileError::NotFound(dst.to_owned())),
        Ok(_) | Err(_) => {}
    }
    let parent = directory_of(dst);
    if !look_here(parent)?.is_dir() {
        return Err(FileError::NotADirectory(parent.to_owned()));
    }
    let new = dst.file_name().map(OsStr::to_owned).unwrap_or(name);
    Ok((parent.to_owned(), new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_gets_a_place_as_dockers_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("f"), "").unwrap();
        let here = |path: PathBuf, name: &str| (path, OsString::from(name));
        for directory in [false, true] {
            assert_eq!(place(&at("d"), b"n", directory).unwrap(), here(at("d"), "n"));
            assert_eq!(place(&at("d/"), b"n", directory).unwrap(), here(at("d/"), "n"));
            assert_eq!(place(&at("new"), b"n", directory).unwrap(), here(at(""), "new"));
            assert!(matches!(place(&at("x/new"), b"n", directory), Err(FileError::NotFound(_))));
            let error = place(&at("f/new"), b"n", directory).unwrap_err();
            assert!(matches!(error, FileError::NotADirectory(_)), "{error:?}");
        }
        assert_eq!(place(&at("f"), b"n", false).unwrap(), here(at(""), "f"));
        assert!(matches!(place(&at("f"), b"n", true), Err(FileError::NotADirectory(_))));
        assert!(matches!(place(&at("f/"), b"n", false), Err(FileError::NotADirectory(_))));
        assert!(matches!(place(&at("new/"), b"n", false), Err(FileError::NotFound(_))));
        assert_eq!(place(&at("new/"), b"n", true).unwrap(), here(at(""), "new"));
    }
}
