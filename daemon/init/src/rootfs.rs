//! The root file system that inits start from, built once in a mount namespace of its own.
//!
//! ```text
//! host's namespace ── copied by the zygote, and kept up to date by the host (slave)
//!    └─ ground: a tmpfs with
//!         /proc   the host's, only so that inits may mount one of their own
//!         /root   what every sandbox sees: binds, /etc, devices, mount points
//! ```
//!
//! An init is cloned from the ground, so the few mounts in it are all that it copies. It
//! binds `/root` once more, since what it inherits is locked in place
//! (mount_namespaces(7)), puts its own places there, and leaves the rest behind.

mod stubs;

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, getgid, getuid, pivot_root};

use crate::message::PrepareStep;
use crate::sys::{self, Attributes};
use crate::template::{Node, Template, Unstubbed};

/// Where the template is in the ground, and what replaces two files of it under the host's network.
pub(crate) const ROOT: &CStr = c"/root";
pub(crate) const HOST_FILES: [(&CStr, &CStr); 2] =
    [(c"/host/resolv.conf", c"etc/resolv.conf"), (c"/host/hosts", c"etc/hosts")];

/// The places that inits mount in every sandbox, by the names of their directories
/// on the host where they have one.
pub(crate) const PLACES: [(&str, &CStr); 3] =
    [("workspace", c"workspace"), ("home", c"home/nox"), ("tmp", c"tmp")];

/// Devices that are the host's.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

const MOUNT_POINTS: [&str; 6] = ["workspace", "home/nox", "tmp", "proc", "dev/pts", "dev/shm"];

/// The mount namespaces of a zygote.
#[derive(Debug)]
pub(crate) struct Ground {
    host: OwnedFd,
    ground: OwnedFd,
}

type Failed = (PrepareStep, Errno);

fn at(step: PrepareStep) -> impl Fn(Errno) -> Failed {
    move |errno| (step, errno)
}

fn io_at(step: PrepareStep) -> impl Fn(io::Error) -> Failed {
    move |error| (step, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

impl Ground {
    /// Moves this process into a copy of the host's mount namespace and builds the ground beside it.
    pub(crate) fn lay(template: &Template) -> Result<(Self, Vec<Unstubbed>), Failed> {
        if getuid().is_root() {
            unshare(CloneFlags::CLONE_NEWNS).map_err(at(PrepareStep::MountNamespace))?;
        } else {
            let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
            let both = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
            unshare(both).map_err(at(PrepareStep::UserNamespace))?;
            map_ids((uid, uid), (gid, gid)).map_err(at(PrepareStep::IdMaps))?;
        }
        // What the host mounts and unmounts later reaches this copy, and nothing goes back.
        mount_flags(c"/", MsFlags::MS_REC | MsFlags::MS_SLAVE)
            .map_err(at(PrepareStep::Propagation))?;
        let host = own_namespace().map_err(io_at(PrepareStep::MountNamespace))?;
        let (ground, unstubbed) = build(template)?;
        let made = Self { host, ground };
        made.leave().map_err(at(PrepareStep::MountNamespace))?;
        Ok((made, unstubbed))
    }

    /// Builds the ground anew, for the inits to come.
    pub(crate) fn lay_again(&mut self, template: &Template) -> Result<Vec<Unstubbed>, Failed> {
        let built = build(template);
        let back = self.leave().map_err(at(PrepareStep::MountNamespace));
        let (ground, unstubbed) = built?;
        self.ground = ground;
        back.map(|()| unstubbed)
    }

    /// Makes the ground this process's mount namespace, for what it clones next.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        setns(&self.ground, CloneFlags::CLONE_NEWNS)
    }

    /// Goes back to the host's mounts.
    pub(crate) fn leave(&self) -> Result<(), Errno> {
        setns(&self.host, CloneFlags::CLONE_NEWNS)
    }
}

/// Maps one user and one group, each as (inside, outside), in the user
/// namespace that this process has just entered, user_namespaces(7).
pub(crate) fn map_ids(uid: (u32, u32), gid: (u32, u32)) -> Result<(), Errno> {
    let write = |file: &str, text: String| {
        let written =
            File::options().write(true).open(file).and_then(|mut f| f.write_all(text.as_bytes()));
        written.map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    // Before the groups: who could still drop one could get past a file's mode that denies it.
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{} {} 1", uid.0, uid.1))?;
    write("/proc/self/gid_map", format!("{} {} 1", gid.0, gid.1))
}

fn own_namespace() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/ns/mnt")?.into())
}

fn mount_flags(target: &CStr, flags: MsFlags) -> Result<(), Errno> {
    mount(None::<&CStr>, target, None::<&CStr>, flags, None::<&CStr>)
}

/// Copies of the host's mounts, taken before anything covers them.
struct Sources {
    proc: OwnedFd,
    devices: Vec<OwnedFd>,
    binds: Vec<Option<OwnedFd>>,
}

impl Sources {
    fn take(template: &Template) -> Result<Self, Failed> {
        let host = |path: &CStr, set: Option<Attributes>, step: PrepareStep| {
            let tree = sys::copy_of(path).map_err(at(step))?;
            let set = set.unwrap_or(Attributes::NOSUID);
            sys::seal(tree.as_fd(), c"", set, true).map_err(at(PrepareStep::Attributes))?;
            Ok(tree)
        };
        let read_only = Attributes::RDONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
        let device = |name: &str| {
            let path = CString::new(format!("/dev/{name}")).unwrap_or_default();
            host(&path, Some(Attributes::NOSUID.and(Attributes::NOEXEC)), PrepareStep::Devices)
        };
        let bind = |node: &Node| match node {
            Node::Bind(source) => host(source, Some(read_only), PrepareStep::Bind).map(Some),
            Node::Directory | Node::File(_) | Node::Link(_) | Node::Hidden | Node::Stubs(_) => {
                Ok(None)
            }
        };
        Ok(Self {
            proc: host(c"/proc", None, PrepareStep::Proc)?,
            devices: DEVICES.into_iter().map(device).collect::<Result<_, _>>()?,
            binds: template
                .entries
                .iter()
                .map(|entry| bind(&entry.node))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Builds the ground in a new mount namespace, which this process is in afterwards.
fn build(template: &Template) -> Result<(OwnedFd, Vec<Unstubbed>), Failed> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(at(PrepareStep::MountNamespace))?;
    mount_flags(c"/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)
        .map_err(at(PrepareStep::Propagation))?;
    let sources = Sources::take(template)?;
    // Over a directory that every host has; what was there is taken already.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(c"noxrunner"), c"/proc", Some(c"tmpfs"), flags, Some(c"mode=0755,size=16m"))
        .map_err(at(PrepareStep::Tmpfs))?;
    chdir("/proc").map_err(at(PrepareStep::Tmpfs))?;
    for name in ["proc", "root", "host", "root/home", "root/dev", "root/etc"] {
        directory(Path::new(name)).map_err(io_at(PrepareStep::Tmpfs))?;
    }
    sys::attach(&sources.proc, c"proc").map_err(at(PrepareStep::Proc))?;
    file(Path::new("host/resolv.conf"), &template.host_resolv_conf)
        .map_err(io_at(PrepareStep::Tmpfs))?;
    file(Path::new("host/hosts"), &template.host_hosts).map_err(io_at(PrepareStep::Tmpfs))?;
    let mut layers = stubs::Layers::default();
    for (entry, bind) in std::iter::zip(&template.entries, sources.binds) {
        match &entry.node {
            Node::Stubs(programs) => layers.put(&entry.path, programs)?,
            Node::Directory | Node::File(_) | Node::Link(_) | Node::Bind(_) | Node::Hidden => {
                plant(&entry.path, &entry.node, bind)?;
            }
        }
    }
    for (name, device) in std::iter::zip(DEVICES, sources.devices) {
        let place = below_root(CString::new(format!("/dev/{name}")).unwrap_or_default().as_c_str());
        file(&place, b"").map_err(io_at(PrepareStep::Devices))?;
        attach(&device, &place).map_err(at(PrepareStep::Devices))?;
    }
    for (name, target) in LINKS {
        symlink(target, Path::new("root").join(name)).map_err(io_at(PrepareStep::Devices))?;
    }
    for name in MOUNT_POINTS {
        directory(&Path::new("root").join(name)).map_err(io_at(PrepareStep::MountPoints))?;
    }
    pivot_root(".", ".").map_err(at(PrepareStep::PivotRoot))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at(PrepareStep::PivotRoot))?;
    chdir("/").map_err(at(PrepareStep::PivotRoot))?;
    // The ground itself, and with it what inits bind of it.
    let here = File::open("/").map_err(io_at(PrepareStep::Attributes))?;
    let read_only = Attributes::RDONLY.and(Attributes::NOSUID).and(Attributes::NODEV);
    sys::seal(here.as_fd(), c"", read_only, false).map_err(at(PrepareStep::Attributes))?;
    let ground = own_namespace().map_err(io_at(PrepareStep::MountNamespace))?;
    Ok((ground, layers.unstubbed))
}

/// Where a path of the template is while the ground is built.
fn below_root(path: &CStr) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let normal = path.components().filter(|part| matches!(part, Component::Normal(_)));
    Path::new("root").join(normal.collect::<PathBuf>())
}

fn attach(tree: &OwnedFd, place: &Path) -> Result<(), Errno> {
    let place = CString::new(place.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    sys::attach(tree, &place)
}

fn plant(path: &CStr, node: &Node, bind: Option<OwnedFd>) -> Result<(), Failed> {
    let place = below_root(path);
    let made = || -> io::Result<()> {
        // Binds have their own directories; what a Hidden one covers is there already.
        match node {
            Node::Hidden | Node::Stubs(_) => return Ok(()),
            Node::Directory => return directory(&place),
            Node::Bind(_) | Node::File(_) | Node::Link(_) => {}
        }
        directory(place.parent().unwrap_or(Path::new("root")))?;
        match node {
            Node::File(content) => file(&place, content),
            Node::Link(target) => symlink(OsStr::from_bytes(target.to_bytes()), &place),
            Node::Bind(source) => {
                let source =
                    PathBuf::from(std::ffi::OsString::from_vec(source.to_bytes().to_vec()));
                if place.symlink_metadata().is_ok() {
                    // In a directory of the host's.
                    return Ok(());
                }
                // Through the copy of the host's /proc it would be another; the source is what was taken.
                match fs::symlink_metadata(&source)?.is_dir() {
                    true => directory(&place),
                    false => file(&place, b""),
                }
            }
            Node::Directory | Node::Hidden | Node::Stubs(_) => Ok(()),
        }
    };
    made().map_err(io_at(PrepareStep::Template))?;
    if let Some(tree) = bind {
        attach(&tree, &place).map_err(at(PrepareStep::Bind))?;
    }
    if *node == Node::Hidden {
        let flags =
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        mount(Some(c"hidden"), &place, Some(c"tmpfs"), flags, Some(c"mode=0755,size=4k"))
            .map_err(at(PrepareStep::Hidden))?;
    }
    Ok(())
}

/// Makes a directory and what is missing above it, each of mode 0755.
fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn file(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)
}
