//! What a tree may have in the way.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use noxrunner_archive::{MAX_DEPTH, PackError, Packer, Tree};

use crate::support::{Reader, members, names, os, pack, unpack};

fn errno(result: Result<impl Sized, PackError>) -> Option<(Errno, String)> {
    match result.err() {
        Some(PackError::Os { errno, name, .. }) => Some((errno, name)),
        Some(PackError::TooDeep { .. } | PackError::Output(_)) | None => None,
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn pipes_and_sockets_are_counted_and_nobody_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    fs::write(dir.path().join("file"), "f").unwrap();
    for tree in [Tree::Own, Tree::Sandbox] {
        let (archive, packed) = pack(dir.path(), tree).unwrap();
        assert_eq!(names(&archive), ["file"]);
        assert_eq!((packed.members, packed.skipped), (1, 2));
        let top = File::open(dir.path()).unwrap();
        let mut packer = Packer::new(Vec::new(), tree);
        packer.entry(top.as_fd(), os(b"pipe"), b"pipe").unwrap();
        assert_eq!(packer.finish().unwrap().1.skipped, 1);
    }
}

#[test]
fn an_entry_that_is_not_there_and_a_path_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), "f").unwrap();
    let top = File::open(dir.path()).unwrap();
    for tree in [Tree::Own, Tree::Sandbox] {
        let mut packer = Packer::new(Vec::new(), tree);
        let mut entry = |name: &[u8]| errno(packer.entry(top.as_fd(), os(name), b"x"));
        assert_eq!(entry(b"no"), Some((Errno::ENOENT, "no".to_owned())));
        assert_eq!(entry(b"d/f"), Some((Errno::EINVAL, "d/f".to_owned())));
        assert_eq!(entry(b"d"), None);
    }
}

/// A process that holds a write lease on a file for as long as its input is open, and ignores
/// that it is asked to give it back.
const LEASE: &str = "
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

#[test]
fn a_lease_makes_nobody_wait() {
    let dir = tempfile::tempdir().unwrap();
    let leased = dir.path().join("leased");
    fs::write(&leased, "l").unwrap();
    fs::write(dir.path().join("other"), "o").unwrap();
    let mut holder = Command::new("/usr/bin/python3")
        .args(["-c", LEASE])
        .arg(&leased)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");

    let started = Instant::now();
    let (archive, packed) = pack(dir.path(), Tree::Sandbox).unwrap();
    assert_eq!(names(&archive), ["other"]);
    assert_eq!((packed.members, packed.unreadable), (1, 1));
    let own = errno(pack(dir.path(), Tree::Own));
    assert_eq!(own, Some((Errno::EAGAIN, "leased".to_owned())));
    // The kernel takes a lease away after 45 s (/proc/sys/fs/lease-break-time).
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_eq!(names(&pack(dir.path(), Tree::Sandbox).unwrap().0), ["leased", "other"]);
}

/// As root nothing is unreadable; run as an ordinary user, this shows what it is about.
#[test]
fn what_its_owner_may_not_read_is_packed_from_a_sandbox_and_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("shut/in")).unwrap();
    fs::write(at("shut/in/file"), "inside").unwrap();
    fs::create_dir(at("searchless")).unwrap();
    fs::write(at("searchless/file"), "there").unwrap();
    fs::write(at("file"), "secretive").unwrap();
    chmod(&at("file"), 0);
    chmod(&at("shut/in"), 0);
    chmod(&at("shut"), 0);
    chmod(&at("searchless"), 0o600);
    let packed = pack(dir.path(), Tree::Sandbox);
    let own = errno(pack(dir.path(), Tree::Own));
    let modes = ["file", "shut", "searchless"].map(|name| {
        let mode = fs::metadata(at(name)).unwrap().permissions().mode();
        chmod(&at(name), 0o700);
        mode & 0o7777
    });
    let inner = fs::metadata(at("shut/in")).unwrap().permissions().mode() & 0o7777;
    chmod(&at("shut/in"), 0o700);

    let (archive, packed) = packed.unwrap();
    let mut read = tar::Archive::new(archive.as_slice());
    let stored: Vec<u32> =
        read.entries().unwrap().map(|entry| entry.unwrap().header().mode().unwrap()).collect();
    assert_eq!(
        names(&archive),
        ["file", "searchless/", "searchless/file", "shut/", "shut/in/", "shut/in/file"]
    );
    assert_eq!([stored[0], stored[1], stored[3], stored[4]], [0, 0o600, 0, 0]);
    assert_eq!(members(&archive)[5].1, b"inside");
    assert_eq!((modes, inner, packed.unreadable), ([0, 0, 0o600], 0, 0));
    let expected = (!nix::unistd::geteuid().is_root()).then_some((Errno::EACCES, "file".into()));
    assert_eq!(own, expected);
}

/// Something that is done to a tree when so many bytes of its archive have been written.
struct Midway<F: FnMut()> {
    archive: Vec<u8>,
    after: usize,
    act: Option<F>,
}

impl<F: FnMut()> Write for Midway<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.extend_from_slice(bytes);
        if self.archive.len() >= self.after
            && let Some(mut act) = self.act.take()
        {
            act();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack_while(dir: &Path, act: impl FnMut()) -> Vec<u8> {
    let out = Midway { archive: Vec::new(), after: 1024 * 1024, act: Some(act) };
    let mut packer = Packer::new(out, Tree::Sandbox);
    packer.contents(File::open(dir).unwrap().as_fd(), b"").unwrap();
    let (out, _) = packer.finish().unwrap();
    assert!(out.act.is_none(), "nothing was done midway");
    out.archive
}

#[test]
fn a_file_is_as_long_as_it_was_when_it_was_found() {
    const SIZE: usize = 4 * 1024 * 1024 + 77;
    for to in [0, 1_500_000, 3 * SIZE] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changing");
        fs::write(&path, vec![7; SIZE]).unwrap();
        fs::write(dir.path().join("next"), "next").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let archive = pack_while(dir.path(), || file.set_len(to as u64).unwrap());
        let members = members(&archive);
        assert_eq!(members.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["changing", "next"]);
        let content = &members[0].1;
        assert_eq!(content.len(), SIZE);
        let data = content.iter().take_while(|&&byte| byte == 7).count();
        assert!(data >= 1_000_000 && content[data..].iter().all(|&byte| byte == 0));
        assert_eq!(data == SIZE, to > SIZE, "shrunk to {to}: {data}");
        assert_eq!(members[1].1, b"next");
        unpack(&archive, Reader::Gnu);
    }
}

#[test]
fn what_vanishes_meanwhile_is_left_out_of_a_sandbox_and_an_error_of_ones_own() {
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 2 * 1024 * 1024]).unwrap();
        fs::write(dir.path().join("b"), "gone").unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        fs::write(dir.path().join("d"), "stays").unwrap();
        dir
    };
    let vanish = |top: &Path| {
        fs::remove_file(top.join("b")).unwrap();
        fs::remove_dir(top.join("c")).unwrap();
    };
    let dir = make();
    assert_eq!(names(&pack_while(dir.path(), || vanish(dir.path()))), ["a", "d"]);

    let dir = make();
    let out = Midway { archive: Vec::new(), after: 1024 * 1024, act: Some(|| vanish(dir.path())) };
    let mut packer = Packer::new(out, Tree::Own);
    let own = packer.contents(File::open(dir.path()).unwrap().as_fd(), b"p");
    assert_eq!(errno(own), Some((Errno::ENOENT, "p/b".to_owned())));
}

#[test]
fn a_full_output_ends_it() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(nix::libc::ENOSPC))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), vec![1; 1024 * 1024]).unwrap();
    let mut packer = Packer::new(Full, Tree::Sandbox);
    let done = packer.contents(File::open(dir.path()).unwrap().as_fd(), b"");
    let Err(PackError::Output(err)) = done else { panic!("{done:?}") };
    assert_eq!(err.raw_os_error(), Some(nix::libc::ENOSPC));
    assert!(matches!(Packer::new(Full, Tree::Own).finish(), Err(PackError::Output(_))));
}

#[test]
fn a_tree_that_is_too_deep_is_refused_and_one_that_is_just_not_is_packed() {
    let dir = tempfile::tempdir().unwrap();
    let deepest = dir.path().join(["d"; MAX_DEPTH].join("/"));
    fs::create_dir_all(&deepest).unwrap();
    fs::write(deepest.join("file"), "f").unwrap();
    let (_, packed) = pack(dir.path(), Tree::Sandbox).unwrap();
    assert_eq!(packed.members, MAX_DEPTH as u64 + 1);
    fs::create_dir(deepest.join("d")).unwrap();
    for tree in [Tree::Own, Tree::Sandbox] {
        let done = pack(dir.path(), tree);
        let Err(PackError::TooDeep { name }) = done else { panic!("{done:?}") };
        assert_eq!(name, ["d"; MAX_DEPTH + 1].join("/"));
    }
}

mod root_only {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sys::stat::{SFlag, makedev, mknod};

    use super::*;

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn devices_are_counted_and_not_opened() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        // A tape drive: there is none, so that opening it would fail.
        let device = dir.path().join("device");
        mknod(&device, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(9, 0)).unwrap();
        mknod(&dir.path().join("null"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap();
        let (archive, packed) = pack(dir.path(), Tree::Sandbox).unwrap();
        assert_eq!((names(&archive).len(), packed.skipped), (0, 2));
    }

    struct Mounted<'a>(&'a Path);

    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            umount2(self.0, MntFlags::MNT_DETACH).unwrap();
        }
    }

    #[test]
    fn mounts_in_a_sandbox_are_not_entered_of_the_same_file_system_or_another() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["bind", "tmpfs"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("file"), "under the mount").unwrap();
        let none = None::<&str>;
        let bind = |from: &Path, to: &Path| {
            mount(Some(from), to, none, MsFlags::MS_BIND, none).unwrap();
        };
        let (b, f, t) = (at("bind"), at("file"), at("tmpfs"));
        bind(outside.path(), &b);
        let _b = Mounted(&b);
        bind(&outside.path().join("secret"), &f);
        let _f = Mounted(&f);
        mount(Some("none"), &t, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let _t = Mounted(&t);
        let (archive, packed) = pack(dir.path(), Tree::Sandbox).unwrap();
        assert_eq!((names(&archive).len(), packed.skipped), (0, 3));
        let (archive, _) = pack(dir.path(), Tree::Own).unwrap();
        assert_eq!(names(&archive), ["bind/", "bind/secret", "file", "tmpfs/"], "the control");
        let top = File::open(dir.path()).unwrap();
        let mut packer = Packer::new(Vec::new(), Tree::Sandbox);
        let entry = packer.entry(top.as_fd(), os(b"bind"), b"x");
        assert_eq!(errno(entry), Some((Errno::EXDEV, "bind".to_owned())));
    }
}
