//! The bytes on the wire: every type reads its checked-in example and writes
//! the same JSON back. A change that breaks one of these breaks clients.

use std::collections::BTreeSet;

use noxrunner_protocol::RpcError;
use noxrunner_protocol::http::{CreateBody, Created, ExecBody, Executed, HttpError, Uploaded};
use noxrunner_protocol::types::{
    Cause, CommandScope, CreateParams, CreateResult, DaemonInfo, DefaultLimits, Deleted, Denial,
    DownloadParams, DownloadResult, Encoding, EnforcedBy, ExecParams, ExecResult, FileChanged,
    FileContent, FileEntry, FileList, FileMkdirParams, FilePathParams, FileReadParams,
    FileRemoveParams, FileRenameParams, FileStat, FileType, FileWriteParams, FileWritten, Health,
    Isolation, Lease, LimitName, LimitStatus, ListMode, MissingFeature, Network, PolicyCheck,
    PolicyCheckParams, PolicyInfo, ResourceUsage, SandboxInfo, SandboxList, SandboxRef,
    SandboxState, SettingGap, Shutdown, Tier, Touched, UploadParams, UploadResult, Usage,
};
use serde_json::Value;

macro_rules! golden {
    ($($name:ident: $type:ty,)+) => {
        $(
            #[test]
            fn $name() {
                let text = include_str!(concat!("../golden/", stringify!($name), ".json"));
                let read: $type = serde_json::from_str(text).unwrap();
                let written = serde_json::to_value(&read).unwrap();
                assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
            }
        )+

        #[test]
        fn every_golden_file_is_tested() {
            let tested: BTreeSet<String> = [$(concat!(stringify!($name), ".json")),+]
                .into_iter().map(str::to_owned).collect();
            // Asked for at run time: the tests may have been built elsewhere.
            let dir = format!("{}/golden", std::env::var("CARGO_MANIFEST_DIR").unwrap());
            let files: BTreeSet<String> = std::fs::read_dir(dir).unwrap()
                .map(|f| f.unwrap().file_name().into_string().unwrap())
                // Those are `earlier.rs`'s.
                .filter(|name| name != "earlier").collect();
            assert_eq!(files, tested);
        }
    };
}

golden! {
    rpc_error: RpcError,
    health: Health,
    daemon_info: DaemonInfo,
    shutdown: Shutdown,
    exec_params: ExecParams,
    exec_result: ExecResult,
    denial: Denial,
    resource_usage: ResourceUsage,
    isolation: Isolation,
    missing_feature: MissingFeature,
    policy_info: PolicyInfo,
    default_limits: DefaultLimits,
    setting_gap: SettingGap,
    policy_check_params: PolicyCheckParams,
    policy_check: PolicyCheck,
    sandbox_ref: SandboxRef,
    create_params: CreateParams,
    create_result: CreateResult,
    limit_status: LimitStatus,
    usage: Usage,
    sandbox_info: SandboxInfo,
    sandbox_list: SandboxList,
    touched: Touched,
    deleted: Deleted,
    file_read_params: FileReadParams,
    file_content: FileContent,
    file_write_params: FileWriteParams,
    file_written: FileWritten,
    file_path_params: FilePathParams,
    file_entry: FileEntry,
    file_list: FileList,
    file_stat: FileStat,
    file_mkdir_params: FileMkdirParams,
    file_remove_params: FileRemoveParams,
    file_rename_params: FileRenameParams,
    file_changed: FileChanged,
    upload_params: UploadParams,
    upload_result: UploadResult,
    download_params: DownloadParams,
    download_result: DownloadResult,
    http_error: HttpError,
    create_body: CreateBody,
    created: Created,
    exec_body: ExecBody,
    executed: Executed,
    uploaded: Uploaded,
}

/// Every name of every enumeration, as it is spelled on the wire.
#[test]
fn names_are_spelled_as_clients_know_them() {
    fn spelled<T: serde::Serialize + serde::de::DeserializeOwned>(names: &[T], spelling: &str) {
        let written = names.iter().map(|n| serde_json::to_value(n).unwrap());
        let written: Vec<String> = written.map(|v| v.as_str().unwrap().to_owned()).collect();
        assert_eq!(written.join(" "), spelling);
        for name in written {
            serde_json::from_value::<T>(Value::String(name)).unwrap();
        }
    }
    use Cause::{Denied, Exited, Limit, NotExecutable, NotFound, Oom, Signaled, Timeout};
    spelled(
        &[Exited, Signaled, Timeout, Oom, Denied, NotFound, NotExecutable, Limit],
        "exited signaled timeout oom denied notFound notExecutable limit",
    );
    spelled(&[Encoding::Utf8, Encoding::Base64], "utf8 base64");
    spelled(&[Tier::Full, Tier::Landlock, Tier::None], "full landlock none");
    spelled(&[Network::None, Network::Host], "none host");
    spelled(&[Lease::None, Lease::Connection], "none connection");
    spelled(
        &[EnforcedBy::Cgroup, EnforcedBy::Rlimit, EnforcedBy::Watch, EnforcedBy::None],
        "cgroup rlimit watch none",
    );
    use LimitName::{Cpu, EphemeralStorage, Inodes, Memory, OpenFiles, Pids};
    spelled(
        &[Cpu, Memory, EphemeralStorage, Inodes, Pids, OpenFiles],
        "cpu memory ephemeralStorage inodes pids openFiles",
    );
    use SandboxState::{Creating, Deleting, Ready};
    spelled(&[Creating, Ready, Deleting], "creating ready deleting");
    spelled(&[CommandScope::Everywhere, CommandScope::Direct], "everywhere direct");
    use FileType::{BlockDevice, CharDevice, Directory, Fifo, File, Socket, Symlink};
    spelled(
        &[File, Directory, Symlink, Fifo, Socket, CharDevice, BlockDevice],
        "file directory symlink fifo socket charDevice blockDevice",
    );
    spelled(&[ListMode::Block, ListMode::Allow], "block allow");
}

#[test]
fn params_left_out_have_their_documented_defaults() {
    let exec: ExecParams = serde_json::from_str(r#"{"sessionId":"s","cmd":["ls"]}"#).unwrap();
    assert_eq!(exec, ExecParams::new("s".parse().unwrap(), vec!["ls".to_owned()]));
    assert_eq!((exec.workdir.as_str(), exec.timeout_seconds.get()), ("/workspace", 30.0));
    let create: CreateParams = serde_json::from_str(r#"{"sessionId":"s"}"#).unwrap();
    assert_eq!(create, CreateParams::new("s".parse().unwrap()));
    assert_eq!(create.ttl_seconds.get(), 900);
}

#[test]
fn an_unknown_param_is_refused_by_name() {
    let error = serde_json::from_str::<ExecParams>(r#"{"sessionId":"s","cmd":["ls"],"timeout":3}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("unknown field `timeout`"), "{error}");
}
