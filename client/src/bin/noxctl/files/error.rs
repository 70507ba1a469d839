//! What can go wrong with files, here and on the way.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use noxrunner_archive::{MergeError, PackError, StageError};
use noxrunner_protocol::ErrorKind;

use crate::interrupt;

/// Why files were not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("File not found: {}", .0.display())]
    NotFound(PathBuf),
    #[error("Is a directory: {}", .0.display())]
    IsADirectory(PathBuf),
    #[error("Not a directory: {}", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} is neither a file nor a directory", .0.display())]
    Special(PathBuf),
    #[error("{}: another file has that last name too, and one would replace the other",
        .0.display())]
    SameName(PathBuf),
    #[error("No files to upload in {}", .0.display())]
    Nothing(PathBuf),
    #[error("cannot {step} {}: {source}", .path.display())]
    Local { step: &'static str, path: PathBuf, source: io::Error },
    #[error("no directory {path} in the sandbox")]
    NoRemoteDirectory { path: String },
    #[error("{path} in the sandbox is not a directory")]
    RemoteNotADirectory { path: String },
    #[error("cannot look what is at {path} in the sandbox: {why}")]
    NotLooked { path: String, why: String },
    #[error("the archive that arrived is not that of one file")]
    NotOneFile,
    #[error("cannot pack: {0}")]
    Pack(#[from] PackError),
    #[error("{0}")]
    Stage(#[from] StageError),
    #[error("{0}")]
    Merge(#[from] MergeError),
    #[error("interrupted; nothing was written")]
    Interrupted,
}

impl FileError {
    /// An error of the system about a path here.
    pub(crate) fn local(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Local { step, path: path.to_owned(), source }
    }

    /// The exit status.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Interrupted => interrupt::STATUS,
            // To be said differently, and known before anything is sent.
            Self::SameName(_) => 2,
            Self::NotFound(_)
            | Self::IsADirectory(_)
            | Self::NotADirectory(_)
            | Self::Special(_)
            | Self::Nothing(_)
            | Self::Local { .. }
            | Self::NoRemoteDirectory { .. }
            | Self::RemoteNotADirectory { .. }
            | Self::NotLooked { .. }
            | Self::NotOneFile
            | Self::Pack(_)
            | Self::Stage(_)
            | Self::Merge(_) => 1,
        }
    }

    /// What the user can do about it, if anybody knows.
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::IsADirectory(_) => Some("upload what is in it with --dir, or copy it with cp"),
            Self::SameName(_) => Some("upload them one after the other, or rename one"),
            Self::NoRemoteDirectory { .. } => Some(
                "make it first, or leave out the `/` at the end if it is to be the file's name",
            ),
            Self::Stage(StageError::NoRoom { .. }) => Some("make room, or choose another place"),
            Self::NotLooked { .. } => Some("use upload and download, which need no shell there"),
            Self::NotOneFile => Some("has it changed meanwhile? Try again"),
            Self::NotFound(_)
            | Self::NotADirectory(_)
            | Self::Special(_)
            | Self::Nothing(_)
            | Self::Local { .. }
            | Self::RemoteNotADirectory { .. }
            | Self::Pack(_)
            | Self::Stage(_)
            | Self::Merge(_)
            | Self::Interrupted => None,
        }
    }

    /// The kind that comes nearest in the table of errors.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) | Self::NoRemoteDirectory { .. } => ErrorKind::FileNotFound,
            Self::IsADirectory(_) | Self::Special(_) | Self::SameName(_) | Self::Nothing(_) => {
                ErrorKind::InvalidArgument
            }
            Self::NotADirectory(_)
            | Self::RemoteNotADirectory { .. }
            | Self::Merge(MergeError::InTheWay { .. }) => ErrorKind::Conflict,
            Self::Local { source, .. } => from_errno(source.raw_os_error().map(Errno::from_raw)),
            Self::Pack(PackError::Os { errno, .. })
            | Self::Stage(StageError::Os { errno, .. })
            | Self::Merge(MergeError::Os { errno, .. }) => from_errno(Some(*errno)),
            Self::Pack(PackError::TooDeep { .. } | PackError::Output(_)) => {
                ErrorKind::InvalidArgument
            }
            Self::NotOneFile | Self::Stage(StageError::Truncated(_) | StageError::Damaged(_)) => {
                ErrorKind::BadArchive
            }
            Self::Stage(StageError::TooLarge { .. } | StageError::TooManyMembers { .. }) => {
                ErrorKind::PayloadTooLarge
            }
            Self::Stage(StageError::NoRoom { .. }) => ErrorKind::StorageFull,
            Self::NotLooked { .. } => ErrorKind::Unsupported,
            Self::Stage(StageError::Input(_)) | Self::Interrupted => ErrorKind::NotReady,
        }
    }
}

fn from_errno(errno: Option<Errno>) -> ErrorKind {
    match errno {
        Some(Errno::ENOENT) => ErrorKind::FileNotFound,
        Some(Errno::ENOSPC | Errno::EDQUOT) => ErrorKind::StorageFull,
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => ErrorKind::PathDenied,
        Some(Errno::ENOTDIR | Errno::EISDIR | Errno::EEXIST | Errno::ENOTEMPTY) => {
            ErrorKind::Conflict
        }
        Some(_) | None => ErrorKind::InvalidArgument,
    }
}
