//! The methods: what each is called, what it takes and what it gives.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{
    CreateParams, CreateResult, DaemonInfo, Deleted, DownloadParams, DownloadResult, ExecParams,
    ExecResult, FileChanged, FileContent, FileList, FileMkdirParams, FilePathParams,
    FileReadParams, FileRemoveParams, FileRenameParams, FileStat, FileWriteParams, FileWritten,
    Health, NoParams, PolicyCheck, PolicyCheckParams, PolicyInfo, SandboxInfo, SandboxList,
    SandboxRef, Shutdown, Touched, UploadParams, UploadResult,
};

/// A method that a client can call.
pub trait Method {
    /// Its name on the wire.
    const NAME: &'static str;
    /// What it does, in a line.
    const SUMMARY: &'static str;
    /// Its params, an object.
    type Params: Serialize + DeserializeOwned + Send + 'static;
    /// Its result.
    type Result: Serialize + DeserializeOwned + Clone + Send + 'static;
}

/// What is done with each method, where something is done with all of them: tests that no
/// method may be forgotten in.
pub trait Visitor {
    /// One method.
    fn visit<M: Method>(&mut self);
}

macro_rules! methods {
    ($($marker:ident = $name:literal ($params:ty) -> $result:ty, $summary:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $summary)]
            #[derive(Debug, Clone, Copy)]
            pub enum $marker {}

            impl Method for $marker {
                const NAME: &'static str = $name;
                const SUMMARY: &'static str = $summary;
                type Params = $params;
                type Result = $result;
            }
        )+

        /// The name of every method, in the order of the wire page.
        pub const NAMES: &[&str] = &[$($name,)+];

        /// Shows every method to a visitor, in the same order.
        pub fn visit_all(visitor: &mut impl Visitor) {
            $(visitor.visit::<$marker>();)+
        }

        #[cfg(feature = "openrpc")]
        pub(crate) fn describe_all(document: &mut crate::openrpc::Document) {
            $(document.method::<$marker>();)+
        }
    };
}

methods! {
    HealthCheck = "health" (NoParams) -> Health,
        "Says whether the daemon is well, and what isolates its sandboxes.";
    RpcDiscover = "rpc.discover" (NoParams) -> serde_json::Value,
        "Gives the OpenRPC document that describes these methods.";
    SandboxCreate = "sandbox.create" (CreateParams) -> CreateResult,
        "Makes a sandbox, or keeps the one of that session id and gives it a new time to live.";
    SandboxGet = "sandbox.get" (SandboxRef) -> SandboxInfo,
        "Describes one sandbox.";
    SandboxListAll = "sandbox.list" (NoParams) -> SandboxList,
        "Describes the caller's sandboxes.";
    SandboxTouch = "sandbox.touch" (SandboxRef) -> Touched,
        "Starts a sandbox's time to live anew.";
    SandboxDelete = "sandbox.delete" (SandboxRef) -> Deleted,
        "Kills what runs in a sandbox and removes it with its files.";
    SandboxExec = "sandbox.exec" (ExecParams) -> ExecResult,
        "Runs a command in a sandbox to its end.";
    FileRead = "file.read" (FileReadParams) -> FileContent,
        "Reads a file, or a range of it.";
    FileWrite = "file.write" (FileWriteParams) -> FileWritten,
        "Writes a file whole, or adds to it.";
    FileListAll = "file.list" (FilePathParams) -> FileList,
        "Lists a directory.";
    FileStatOne = "file.stat" (FilePathParams) -> FileStat,
        "Describes a file, a directory or a link.";
    FileMkdir = "file.mkdir" (FileMkdirParams) -> FileChanged,
        "Makes a directory.";
    FileRemove = "file.remove" (FileRemoveParams) -> FileChanged,
        "Removes a file, a link or a directory.";
    FileRename = "file.rename" (FileRenameParams) -> FileChanged,
        "Renames or moves a file, a link or a directory.";
    FileUpload = "file.upload" (UploadParams) -> UploadResult,
        "Unpacks a tar archive into a sandbox: all of it or nothing.";
    FileDownload = "file.download" (DownloadParams) -> DownloadResult,
        "Packs a directory or a file of a sandbox into a tar archive.";
    PolicyGet = "policy.get" (NoParams) -> PolicyInfo,
        "Gives the policy in force.";
    PolicyCheckOne = "policy.check" (PolicyCheckParams) -> PolicyCheck,
        "Says what the policy makes of a command or a path, and runs nothing.";
    DaemonInfoGet = "daemon.info" (NoParams) -> DaemonInfo,
        "Describes the daemon.";
    DaemonShutdown = "daemon.shutdown" (NoParams) -> Shutdown,
        "Ends the daemon as SIGTERM does, after answering.";
}
