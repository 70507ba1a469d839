//! Where the daemon's own groups are, on machines of each kind.

use std::fs;
use std::path::Path;

use super::super::controller::Set;
use super::super::leftovers::find;
use super::super::place::{Legacy, Place, Spot, locate};

fn spot(mount: &str, own: &str) -> Spot {
    Spot { mount: mount.into(), own: own.into(), read_only: false }
}

fn legacy(controllers: &[&str], mount: &str, own: &str) -> Legacy {
    Legacy { controllers: Set::named(controllers.iter().copied()), spot: spot(mount, own) }
}

const SYSTEMD: &str = "\
25 30 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
32 24 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
30 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
";

#[test]
fn a_session_of_systemd_on_version_2() {
    let own = "user.slice/user-1000.slice/user@1000.service/app.slice/run-r0:x.scope";
    let place = locate(SYSTEMD, &format!("0::/{own}\n"));
    let own = format!("/sys/fs/cgroup/{own}");
    let unified = Some(spot("/sys/fs/cgroup", &own));
    assert_eq!(place, Place { unified, ..Place::default() });
}

#[test]
fn the_root_of_version_2() {
    // A bare machine, or a container with a cgroup namespace.
    let place = locate(SYSTEMD, "0::/\n");
    assert_eq!(place.unified, Some(spot("/sys/fs/cgroup", "/sys/fs/cgroup")));
}

#[test]
fn a_container_on_version_2() {
    let read_only = "\
1201 1190 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
";
    let place = locate(read_only, "0::/\n");
    let unified = Spot { read_only: true, ..spot("/sys/fs/cgroup", "/sys/fs/cgroup") };
    assert_eq!(place, Place { unified: Some(unified), ..Place::default() });

    // Without a namespace: what is mounted is the container's part of the host's.
    let part = "\
1201 1190 0:28 /docker/4f /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw,nsdelegate
";
    let place = locate(part, "0::/docker/4f/inner\n");
    assert_eq!(place.unified, Some(spot("/sys/fs/cgroup", "/sys/fs/cgroup/inner")));
    let place = locate(part, "0::/docker/4fa\n");
    assert_eq!(place, Place { hidden: true, ..Place::default() });
}

#[test]
fn groups_above_the_namespace_are_not_seen() {
    let above = "1 1 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    assert_eq!(locate(above, "0::/\n"), Place { hidden: true, ..Place::default() });
    assert_eq!(locate(SYSTEMD, "0::/../x\n"), Place { hidden: true, ..Place::default() });
}

const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn version_1_with_an_empty_version_2_beside_it() {
    let place = locate(
        V1,
        "9:name=systemd:/\n8:pids:/\n4:memory:/job/7f\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/\n",
    );
    assert_eq!(
        place.legacy,
        [
            legacy(&["pids"], "/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids"),
            legacy(&["memory"], "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/job/7f"),
            legacy(&["cpu"], "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu"),
        ]
    );
    assert_eq!(
        place.unified,
        Some(spot("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified")),
        "which has no controllers: that is for its files to say"
    );
}

#[test]
fn systemds_hybrid_mounts_cpu_and_cpuacct_together() {
    let mountinfo = "\
30 25 0:25 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
36 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:16 - cgroup cgroup rw,cpu,cpuacct
37 30 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory
38 30 0:33 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid shared:18 - cgroup cgroup rw,net_cls,net_prio
";
    let service = "/system.slice/noxrunnerd.service";
    let cgroup =
        format!("5:memory:{service}\n4:cpu,cpuacct:/\n3:net_cls,net_prio:/\n0::{service}\n");
    let place = locate(mountinfo, &cgroup);
    assert_eq!(
        place.legacy,
        [
            legacy(
                &["memory"],
                "/sys/fs/cgroup/memory",
                &format!("/sys/fs/cgroup/memory{service}")
            ),
            legacy(&["cpu"], "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        ]
    );
}

#[test]
fn the_writable_one_of_two_mounts_is_taken_else_the_later() {
    let writable = "2 1 0:28 / /w rw - cgroup2 none rw\n";
    let read_only = "3 1 0:28 / /r ro - cgroup2 none rw\n";
    let later = "4 1 0:28 / /later rw - cgroup2 none rw\n";
    for (mounts, expected) in [
        ([writable, read_only], "/w"),
        ([read_only, writable], "/w"),
        ([writable, later], "/later"),
    ] {
        let unified = locate(&mounts.concat(), "0::/a\n").unified.unwrap();
        assert_eq!(unified.own, Path::new(expected).join("a"));
    }
}

#[test]
fn odd_names_and_lines_are_read() {
    let mountinfo = "garbage\n\n2 1 0:28 / /with\\040a\\134 rw - cgroup2 none rw\n9 - cgroup2\n";
    let place = locate(mountinfo, "garbage\n0::/a:b c\n");
    assert_eq!(place.unified, Some(spot("/with a\\", "/with a\\/a:b c")));
    assert_eq!(locate("", ""), Place::default());
}

#[test]
fn leftovers_are_found_at_any_depth_by_their_exact_name() {
    let uid = nix::unistd::geteuid().as_raw();
    let mount = tempfile::tempdir().unwrap();
    let name = "noxrunner-7-1-2";
    for directory in
        ["a/b", "a/noxrunner-7-1-2/s1/noxrunner-7-1-2", "noxrunner-7-1-23", "c/noxrunner-7-1-2"]
    {
        fs::create_dir_all(mount.path().join(directory)).unwrap();
    }
    fs::write(mount.path().join("a/b").join(name), "a file").unwrap();
    std::os::unix::fs::symlink("a", mount.path().join("link")).unwrap();
    let mut found = find(mount.path(), name, uid);
    found.sort();
    assert_eq!(found, ["a", "c"].map(|inside| mount.path().join(inside).join(name)));
    // Somebody else's of that name are none of ours.
    assert_eq!(find(mount.path(), name, uid + 1), Vec::<std::path::PathBuf>::new());
}
