//! How clients hear of what went wrong with files: the same table, for the one error that has most to say.

use noxrunner_archive::{MergeError, PackError, StageError};
use noxrunner_protocol::ErrorKind;

use crate::files::FileError;

const NOT_YOURS: &str = "change its mode with an exec of python3 or the like, or remove it";

const ROOM: &str = "make room on the file system of the daemon's base directory; keep_free in the \
    policy file says how much an upload leaves";

/// The kind of the error, and what to do about it.
pub(super) fn kind_and_hint(error: &FileError) -> (ErrorKind, &'static str) {
    match error {
        FileError::Invalid(_) => (ErrorKind::InvalidArgument, ""),
        FileError::NotFound(_) => (
            ErrorKind::FileNotFound,
            "file.list shows what is there; a link to nothing counts as nothing",
        ),
        FileError::LeadsOut(_) => {
            (ErrorKind::PathDenied, "name a path that stays inside the sandbox")
        }
        FileError::TooManyLinks(_) => (ErrorKind::PathDenied, "name it without links"),
        FileError::NotADirectory(_) => {
            (ErrorKind::Conflict, "name a directory, or remove what is in its place")
        }
        FileError::IsADirectory(_) => {
            (ErrorKind::Conflict, "name a file; file.download packs a directory")
        }
        FileError::NotAFile(_) => {
            (ErrorKind::Conflict, "only regular files can be read or added to")
        }
        FileError::Exists(_) => (ErrorKind::Conflict, "choose another name, or remove it first"),
        FileError::NotEmpty(_) => {
            (ErrorKind::Conflict, "pass recursive: true to remove everything in it")
        }
        FileError::IsPlace(_) => {
            (ErrorKind::PathDenied, "name something in it; sandbox.delete removes all of a sandbox")
        }
        FileError::Leased(_) => {
            (ErrorKind::Conflict, "try again when that process has let go of it")
        }
        FileError::Unsteady(_) => (ErrorKind::Conflict, "try again when it has come to rest"),
        FileError::Forbidden(_) => (ErrorKind::PathDenied, NOT_YOURS),
        FileError::TooManyEntries { .. } => {
            (ErrorKind::PayloadTooLarge, "list it with an exec of find or ls, or download it")
        }
        FileError::TooLarge { .. } => (
            ErrorKind::PayloadTooLarge,
            "download it over HTTP on the same socket: GET /v1/sandboxes/{id}/files/download, or noxctl download",
        ),
        FileError::NoRoom(_) => (ErrorKind::StorageFull, ROOM),
        FileError::Stage(error) => staging(error),
        FileError::Merge(MergeError::InTheWay { .. }) => {
            (ErrorKind::Conflict, "remove it, or choose another destination")
        }
        FileError::Pack(PackError::TooDeep { .. }) => {
            (ErrorKind::LimitExceeded, "pack it inside, with an exec of tar, and read the file")
        }
        FileError::Pack(PackError::Output(_)) => (ErrorKind::Internal, "try again"),
        FileError::Merge(MergeError::Os { errno, .. })
        | FileError::Pack(PackError::Os { errno, .. })
        | FileError::Os { errno, .. } => system(*errno),
    }
}

fn staging(error: &StageError) -> (ErrorKind, &'static str) {
    match error {
        StageError::Truncated(_) | StageError::Damaged(_) => {
            (ErrorKind::BadArchive, "nothing was written: send a whole tar archive, plain or gzip")
        }
        StageError::TooLarge { .. } => (
            ErrorKind::PayloadTooLarge,
            "nothing was written: max_upload in the policy file is the bound",
        ),
        StageError::TooManyMembers { .. } => {
            (ErrorKind::PayloadTooLarge, "nothing was written: send it in several archives")
        }
        StageError::NoRoom { .. } => (ErrorKind::StorageFull, ROOM),
        StageError::Input(_) => {
            (ErrorKind::BadArchive, "nothing was written: send it again, whole")
        }
        StageError::Os { errno, .. } => system(*errno),
    }
}

fn system(errno: nix::errno::Errno) -> (ErrorKind, &'static str) {
    use nix::errno::Errno;
    // `Errno` is not an enumeration of ours, and has more than a hundred members.
    #[allow(clippy::wildcard_enum_match_arm)]
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => (ErrorKind::StorageFull, ROOM),
        Errno::ENOENT => (ErrorKind::FileNotFound, "it was removed meanwhile"),
        Errno::EACCES | Errno::EPERM => (ErrorKind::PathDenied, NOT_YOURS),
        Errno::ENOTDIR | Errno::EISDIR | Errno::EEXIST | Errno::ENOTEMPTY | Errno::ELOOP => {
            (ErrorKind::Conflict, "something inside changed it meanwhile: try again")
        }
        Errno::EFBIG | Errno::ENAMETOOLONG => {
            (ErrorKind::InvalidArgument, "the file system has no room for such a file or name")
        }
        Errno::EBUSY => (ErrorKind::Conflict, "something is mounted there: unmount it first"),
        _ => (ErrorKind::Internal, "the daemon's log says more"),
    }
}
