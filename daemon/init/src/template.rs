//! What every sandbox of a daemon sees beside its own places, as data.
//!
//! The daemon decides it, the zygote builds it once, and each init takes a copy of the
//! mounts. Everything in it is read-only to sandboxed code.

use std::ffi::CString;

use serde::{Deserialize, Serialize};

/// The root file system of a daemon's sandboxes. Its own places (`/workspace`,
/// `/home/nox`, `/tmp`), `/proc`, `/dev` and their mount points are not in it: inits bring those.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Made in this order. Missing parents are made first, empty and of mode 0755.
    pub entries: Vec<TemplateEntry>,
    /// What `/etc/resolv.conf` says where a sandbox has the host's network.
    pub host_resolv_conf: Vec<u8>,
    /// What `/etc/hosts` says there.
    pub host_hosts: Vec<u8>,
}

/// One thing in a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateEntry {
    /// Where it stands in a sandbox: an absolute path without `.`, `..` and links.
    pub path: CString,
    /// What it is.
    pub node: Node,
}

/// What stands at a place of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// An empty directory, mode 0755.
    Directory,
    /// A file of this content, mode 0644.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Link(CString),
    /// A file or directory of the host, with everything mounted below it. The
    /// source is an absolute path on the host, free of links.
    Bind(CString),
    /// An empty directory mounted over what an earlier entry put there.
    Hidden,
    /// Programs that stand before those of the same names in a directory that an earlier entry put there.
    Stubs(Vec<Stub>),
}

/// A program that stands in for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stub {
    /// Its name in the directory.
    pub name: CString,
    /// What the file has in it.
    pub program: Vec<u8>,
}

/// A directory whose stubs could not be put before everything in it: they are
/// bound over the programs that are there now, as far as that works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstubbed {
    /// The directory, as sandboxes see it.
    pub directory: CString,
    /// Why, as errno(3) numbers it.
    pub errno: i32,
}
