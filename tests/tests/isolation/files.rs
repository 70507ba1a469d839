//! Files of the host: by every path there is, none can be read, written or listed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use noxrunner_tests::attack::{inside, outside};
use tempfile::TempDir;

use super::Control::{InNamespaces, Outside};
use super::{denied, full};

/// A file of the test's own that any user may read, in a directory that any user may list.
fn secret() -> (TempDir, String) {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, "secret").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (dir, file)
}

#[test]
fn a_file_outside_is_not_there_by_any_path() {
    let daemon = full();
    let (_dir, secret) = secret();
    let read = |path: &str| format!("open({path:?}).read()");
    let from_root = secret.trim_start_matches('/');
    for path in [
        secret.clone(),
        format!("//{from_root}"),
        format!("/proc/self/root/{from_root}"),
        format!("//proc/self/root/{from_root}"),
        format!("/proc/thread-self/root/{from_root}"),
        format!("/proc/self/cwd/../../../../{from_root}"),
        format!("/workspace/../{from_root}"),
        format!("/workspace/../../../../../../{from_root}"),
        format!("/dev/fd/../../../{from_root}"),
        format!("/usr/../{from_root}"),
    ] {
        assert_eq!(inside(&daemon, "s", &read(&path)), "ENOENT", "{path}");
    }
    assert_eq!(outside(&read(&secret)), "ok");
    assert_eq!(outside(&read(&format!("/proc/self/root/{from_root}"))), "ok");
    // A process's own, outside its parent, is what /proc/PID/root of another would be.
    let parents = format!("/proc/%d/root/{from_root}");
    let parent = format!("open({parents:?} % os.getppid()).read()");
    denied(&daemon, &[("the root of its parent", &parent, Outside, "EACCES")]);
    for code in [
        "os.stat('/proc/1/root/.')",
        "os.stat('/proc/1/cwd/.')",
        "os.readlink('/proc/1/exe')",
        "os.listdir('/proc/1/fd')",
        "os.listdir('/proc/1/map_files')",
        "open('/proc/1/environ').read()",
        "open('/proc/1/maps').read()",
        "open('/proc/1/mem', 'rb').read(1)",
    ] {
        assert_eq!(inside(&daemon, "s", code), "EACCES", "{code}");
        assert_eq!(outside(&code.replace("/proc/1/", "/proc/self/").replace(".read(1)", "")), "ok");
    }
}

#[test]
fn links_that_the_host_or_a_command_made_lead_nowhere() {
    let daemon = full();
    let (dir, secret) = secret();
    let workspace = daemon.workspace("s");
    symlink(&secret, workspace.join("file")).unwrap();
    symlink(dir.path(), workspace.join("directory")).unwrap();
    symlink("/proc/1/root", workspace.join("magic")).unwrap();
    let read = |path: &Path| format!("open({:?}).read()", path.to_str().unwrap());
    for (name, want) in
        [("file", "ENOENT"), ("directory/secret", "ENOENT"), ("magic/etc/hostname", "EACCES")]
    {
        assert_eq!(
            inside(&daemon, "s", &read(&Path::new("/workspace").join(name))),
            want,
            "{name}"
        );
    }
    assert_eq!(outside(&read(&workspace.join("file"))), "ok");
    assert_eq!(outside(&read(&workspace.join("directory/secret"))), "ok");
    let made = format!("os.symlink({secret:?}, '/workspace/made'); open('/workspace/made').read()");
    assert_eq!(inside(&daemon, "s", &made), "ENOENT");
    // A hard link would have to leave its mount.
    assert_eq!(inside(&daemon, "s", "os.link('/usr/bin/env', '/workspace/env')"), "EXDEV");
    let writable = "os.mkdir('/workspace/d'); open('/workspace/d/f', 'w'); os.link('/workspace/d/f', '/workspace/g')";
    assert_eq!(inside(&daemon, "s", writable), "ok");
}

#[test]
fn what_is_not_a_sandboxs_is_absent_not_merely_unreadable() {
    let daemon = full();
    let listed = daemon.sh("s", "ls -A /").stdout;
    let known = [
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "nix",
        "opt",
        "proc",
        "root",
        "sbin",
        "snap",
        "tmp",
        "usr",
        "workspace",
    ];
    // Homes stand there for their toolchains, if at all.
    let home = std::env::home_dir().unwrap_or_default();
    let home = home.components().nth(1).map(|part| part.as_os_str().to_str().unwrap().to_owned());
    for name in listed.lines() {
        assert!(known.contains(&name) || home.as_deref() == Some(name), "/{name} in {listed}");
    }
    for path in [
        "/run",
        "/var",
        "/boot",
        "/sys",
        "/mnt",
        "/srv",
        "/etc/shadow",
        "/etc/ssl/private",
        "/etc/ssh",
        "/etc/machine-id",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/fuse",
        "/dev/net",
        "/dev/loop0",
        "/sys/fs/cgroup",
        "/proc/1/root",
    ] {
        let want = if path == "/proc/1/root" { "EACCES" } else { "ENOENT" };
        assert_eq!(inside(&daemon, "s", &format!("os.stat({path:?})")), want, "{path}");
    }
    assert_eq!(
        outside("os.stat('/run'); os.stat('/var'); os.stat('/sys'); os.stat('/dev/kmsg')"),
        "ok"
    );
}

#[test]
fn nothing_of_the_system_can_be_written() {
    let daemon = full();
    for (code, want) in [
        ("open('/usr/bin/noxtest', 'w')", "EROFS"),
        ("open('/etc/noxtest', 'w')", "EROFS"),
        ("open('/noxtest', 'w')", "EROFS"),
        ("open('/dev/noxtest', 'w')", "EROFS"),
        ("os.mkdir('/usr/noxtest')", "EROFS"),
        ("os.unlink('/etc/passwd')", "EROFS"),
        ("os.rename('/etc/passwd', '/etc/x')", "EROFS"),
        ("os.chmod('/etc/passwd', 0o777)", "EROFS"),
        ("os.utime('/etc/passwd')", "EROFS"),
        ("os.setxattr('/etc/passwd', 'user.x', b'x')", "EROFS"),
    ] {
        assert_eq!(inside(&daemon, "s", code), want, "{code}");
    }
    // Of a daemon of root's, /etc is somebody else's, which newer kernels look at first: seen
    // in 6.18, while 6.12 looks at the mount first.
    let truncated = inside(&daemon, "s", "os.truncate('/etc/passwd', 0)");
    let root = nix::unistd::geteuid().is_root();
    assert!(truncated == "EROFS" || (root && truncated == "EACCES"), "{truncated}");
    // The same acts where the sandbox is at home.
    let own = "for place in ('/workspace', '/home/nox', '/tmp', '/dev/shm'):
    f = place + '/f'
    open(f, 'w').write('x'); os.chmod(f, 0o777); os.truncate(f, 0); os.utime(f); os.rename(f, f + '2'); os.unlink(f + '2'); os.mkdir(f); os.rmdir(f)";
    assert_eq!(inside(&daemon, "s", own), "ok");
    assert_eq!(inside(&daemon, "s", "os.setxattr('/workspace', 'user.x', b'x')"), "ok");
}

#[test]
fn devices_are_few_and_none_can_be_made() {
    let daemon = full();
    let listed = daemon.sh("s", "cd /dev && ls -A | tr '\\n' ' '").stdout;
    assert_eq!(listed, "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ");
    assert_eq!(
        inside(&daemon, "s", "os.mknod('/workspace/null', 0o20666, os.makedev(1, 3))"),
        "EPERM"
    );
    // One that the host put there is dead: the mount knows no devices.
    assert_eq!(
        inside(
            &daemon,
            "s",
            "open('/dev/null', 'w').write('x'); open('/dev/zero', 'rb').read(1); os.openpty()"
        ),
        "ok"
    );
}

#[test]
fn sysctls_and_other_switches_of_the_kernel_do_not_move() {
    let writes = [
        ("/proc/sys/kernel/hostname", "EACCES"),
        ("/proc/sys/vm/overcommit_memory", "EACCES"),
        ("/proc/sys/kernel/core_pattern", "EACCES"),
        ("/proc/1/oom_score_adj", "EACCES"),
    ];
    let daemon = full();
    for (file, want) in writes {
        assert_eq!(inside(&daemon, "s", &format!("open({file:?}, 'w')")), want, "{file}");
    }
    assert_eq!(inside(&daemon, "s", "open('/proc/self/comm', 'w').write('x')"), "ok");
    denied(
        &daemon,
        &[
            (
                "a sysctl of its own network",
                "open('/proc/sys/net/ipv4/ip_forward', 'w').write('1')",
                InNamespaces,
                "EACCES",
            ),
            (
                "a sysctl of its own IPC",
                "open('/proc/sys/kernel/shmmni', 'w').write('64')",
                InNamespaces,
                "EACCES",
            ),
        ],
    );
}

/// Only root can put a device into a workspace, or see to it that the daemon's socket has two names.
mod root_only {
    use super::*;

    #[test]
    fn a_device_in_the_workspace_is_dead() {
        let daemon = full();
        let device = daemon.workspace("s").join("null");
        let made = std::process::Command::new("mknod")
            .arg(&device)
            .args(["-m", "666", "c", "1", "3"])
            .status();
        assert!(made.unwrap().success());
        let open = |path: &str| format!("open({path:?}, 'w').write('x')");
        assert_eq!(outside(&open(device.to_str().unwrap())), "ok");
        assert_eq!(inside(&daemon, "s", &open("/workspace/null")), "EACCES");
    }
}
