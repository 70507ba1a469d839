//! What of the kernel works here, found out by doing it in a process that ends afterwards.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, getgid, getuid, pipe2, setgroups, setresgid, setresuid};

use crate::message::{Feature, Findings, Layers, Places};
use crate::rootfs::map_ids;
use crate::seccomp::Filter;
use crate::sys;
use crate::walls::INSIDE;

/// Tries everything, as the user of that id where there is one.
pub(crate) fn run(host_id: Option<u32>) -> Findings {
    let mut findings = Findings { tried: Vec::new(), landlock: sys::landlock_version() };
    if let Ok(tried) = in_a_child(host_id) {
        findings.tried = tried;
    }
    findings
}

fn in_a_child(host_id: Option<u32>) -> Result<Vec<(Feature, i32)>, Errno> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let child = sys::fork(|| {
        let found = postcard::to_stdvec(&tries(host_id)).unwrap_or_default();
        i32::from(File::from(write).write_all(&found).is_err())
    })?;
    let mut bytes = Vec::new();
    let read = File::from(read).read_to_end(&mut bytes);
    let _ = waitpid(child, None);
    read.map_err(|_| Errno::EIO)?;
    postcard::from_bytes(&bytes).map_err(|_| Errno::EIO)
}

fn tries(host_id: Option<u32>) -> Vec<(Feature, i32)> {
    let mut found = Vec::new();
    let mut note = |feature, outcome: Result<(), Errno>| {
        found.push((feature, outcome.err().map_or(0, |errno| errno as i32)));
    };
    if let Some(id) = host_id {
        note(Feature::HostIds, become_user(id));
    }
    // What this process is must be asked while it has a name for it.
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let _ = prctl::set_dumpable(true);
    let user =
        unshare(CloneFlags::CLONE_NEWUSER).and_then(|()| map_ids((INSIDE, uid), (INSIDE, gid)));
    note(Feature::UserNamespace, user);
    let mounts = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none(), c"/", none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none()));
    // Over a directory that every host has, in nobody's sight.
    note(
        Feature::Overlay,
        mounts.and_then(|()| put(c"overlay", c"/usr", Some(c"lowerdir=/usr:/etc"))),
    );
    note(Feature::MountNamespace, mounts.and_then(|()| put(c"tmpfs", c"/usr", None)));
    let devpts = put(c"devpts", c"/usr", Some(c"newinstance,ptmxmode=0666,mode=0620"));
    note(Feature::Devpts, devpts);
    let pid = unshare(CloneFlags::CLONE_NEWPID);
    note(Feature::PidNamespace, pid);
    note(Feature::Proc, pid.and_then(|()| mount_proc()));
    note(
        Feature::NetworkNamespace,
        unshare(CloneFlags::CLONE_NEWNET).and_then(|()| sys::loopback_up()),
    );
    note(Feature::IpcNamespace, unshare(CloneFlags::CLONE_NEWIPC));
    note(Feature::UtsNamespace, unshare(CloneFlags::CLONE_NEWUTS));
    note(Feature::CgroupNamespace, unshare(CloneFlags::CLONE_NEWCGROUP));
    let landlock = if sys::landlock_version() > 0 { Ok(()) } else { Err(Errno::ENOSYS) };
    note(Feature::Landlock, landlock);
    let seccomp = Filter::compile(Layers::Full, Places::default(), true)
        .and_then(|filter| prctl::set_no_new_privs().and_then(|()| filter.install()));
    note(Feature::Seccomp, seccomp);
    found
}

fn become_user(id: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

fn none() -> Option<&'static CStr> {
    None
}

fn put(kind: &CStr, place: &CStr, options: Option<&CStr>) -> Result<(), Errno> {
    mount(Some(kind), place, Some(kind), MsFlags::MS_NOSUID, options)
}

/// Only a child is in the new process id namespace.
fn mount_proc() -> Result<(), Errno> {
    let child = sys::fork(|| match put(c"proc", c"/proc", None) {
        Ok(()) => 0,
        Err(errno) => errno as i32,
    })?;
    let WaitStatus::Exited(_, code) = waitpid(child, None)? else { return Err(Errno::EIO) };
    match code {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno)),
    }
}
