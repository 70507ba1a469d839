//! The params and results of every method, one file a subject.
//!
//! Fields are camelCase on the wire and the same as in the HTTP API. Params
//! refuse fields they do not know, by name: a typo must not be silently
//! ignored. Results may gain fields, which readers ignore.
//!
//! The JSON beside each type is the very file its golden test reads.

mod daemon;
mod exec;
mod file;
mod isolation;
mod policy;
mod sandbox;

pub use daemon::{DaemonInfo, Health, Shutdown};
pub use exec::{Cause, Denial, Encoding, ExecParams, ExecResult, ResourceUsage};
pub use file::{
    DownloadParams, DownloadResult, FileChanged, FileContent, FileEntry, FileList, FileMkdirParams,
    FilePathParams, FileReadParams, FileRemoveParams, FileRenameParams, FileStat, FileType,
    FileWriteParams, FileWritten, UploadParams, UploadResult,
};
pub use isolation::{Isolation, MissingFeature, Tier};
pub use policy::{
    CommandScope, DefaultLimits, DeleteScope, ExecScope, ListMode, PolicyCheck, PolicyCheckParams,
    PolicyInfo, SettingGap,
};
pub use sandbox::{
    CreateParams, CreateResult, Deleted, EnforcedBy, Lease, LimitName, LimitStatus, Limits,
    Network, SandboxInfo, SandboxList, SandboxRef, SandboxState, Touched, Usage,
};

use serde::{Deserialize, Serialize};

/// The params of a method that takes none.
///
/// ```json
/// {}
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct NoParams {}

pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}
