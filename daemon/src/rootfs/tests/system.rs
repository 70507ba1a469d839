//! The system and `/etc`.

use super::*;

#[test]
fn the_system_is_shown_as_it_is_laid_out() {
    let machine = Machine::new();
    machine.link("usr/bin", "root/bin");
    machine.dir("root/lib64");
    machine.dir("root/elsewhere");
    machine.link("elsewhere", "root/lib");
    machine.file("root/snap", "no directory");
    let rootfs = machine.plan();
    assert_eq!(node(&rootfs, "/bin"), Some(&Node::Link(c"usr/bin".into())));
    let want = [("/usr", "usr"), ("/opt", "opt"), ("/lib", "elsewhere"), ("/lib64", "lib64")];
    let want = want.map(|(to, from)| (PathBuf::from(to), machine.at("root").join(from)));
    assert_eq!(binds(&rootfs), want);
    assert_eq!(rootfs.warnings(), [""; 0]);
    assert_eq!(rootfs.env().keys().collect::<Vec<_>>(), ["CARGO_HOME"]);
    assert_eq!(rootfs.env()[OsStr::new("CARGO_HOME")], "/home/nox/.cargo");
}

#[test]
fn etc_has_what_programs_need_and_nothing_else() {
    let machine = Machine { is_root: true, ..Machine::new() };
    for name in ["passwd", "shadow", "gitconfig", "npmrc", "ssl/private/key", "sudoers"] {
        machine.file(&format!("root/etc/{name}"), "secret");
    }
    machine.file("root/etc/services", "http 80/tcp\n");
    machine.file("root/etc/ssl/openssl.cnf", "conf");
    let private = machine.file("root/etc/inputrc", "of root alone");
    fs::set_permissions(private, fs::Permissions::from_mode(0o600)).unwrap();
    machine.file("root/etc/resolv.conf", "nameserver 192.0.2.1\n");
    machine.file("root/etc/hosts", &"192.0.2.1 a\n".repeat(6000));
    for name in ["java-17", "python3.11", "python3", "ssl/certs", "python2", "R"] {
        machine.dir(&format!("root/etc/{name}"));
    }
    machine.file("root/etc/java-x", "no directory");
    let rootfs = machine.plan();
    let binds: Vec<_> = binds(&rootfs).into_iter().map(|(to, _)| to).collect();
    let etc = ["R", "ssl/certs", "java-17", "python3", "python3.11"];
    assert_eq!(binds[2..], etc.map(|name| Path::new("/etc").join(name)));
    let all = rootfs.template().entries.iter().map(|entry| format!("{entry:?}"));
    assert!(all.into_iter().all(|entry| !entry.contains("private") && !entry.contains("shadow\"")));
    for name in ["shadow", "gitconfig", "npmrc", "sudoers", "inputrc", "ssl/private"] {
        assert_eq!(node(&rootfs, Path::new("/etc").join(name)), None, "{name}");
        assert_eq!(rootfs.host_path(&Path::new("/etc").join(name)), None, "{name}");
    }
    assert_eq!(text(&rootfs, "/etc/services"), "http 80/tcp\n");
    assert_eq!(text(&rootfs, "/etc/ssl/openssl.cnf"), "conf");
    assert!(
        text(&rootfs, "/etc/passwd")
            .contains("\nnox:x:1000:1000:NoxRunner sandbox:/home/nox:/bin/sh\n")
    );
    assert!(text(&rootfs, "/etc/group").contains("nox:x:1000:"));
    assert!(text(&rootfs, "/etc/hosts").contains("127.0.1.1\tsandbox\n"));
    assert_eq!(text(&rootfs, "/etc/hostname"), "sandbox\n");
    assert!(text(&rootfs, "/etc/nsswitch.conf").contains("hosts: files dns\n"));
    assert!(!text(&rootfs, "/etc/resolv.conf").contains("nameserver"));
    assert!(rootfs.warnings()[0].contains("inputrc"), "{:?}", rootfs.warnings());
    let template = rootfs.template();
    assert_eq!(template.host_resolv_conf, b"nameserver 192.0.2.1\n");
    assert!(template.host_hosts.len() > 60_000 && template.host_hosts.len() <= 64 * 1024);
    assert!(template.host_hosts.ends_with(b"192.0.2.1 a\n"));

    machine.program("root/bin/bash");
    assert!(text(&machine.plan(), "/etc/passwd").contains("/home/nox:/bin/bash\n"));
}

#[test]
fn the_time_zone_stays_a_link_where_sandboxes_see_its_target() {
    for (target, stays) in [
        ("/usr/share/zoneinfo/Etc/UTC", true),
        ("../usr/share/zoneinfo/Etc/UTC", true),
        ("../other/zone", false),
        ("/usr/share/zoneinfo/../../../var/zone", false),
    ] {
        let machine = Machine::new();
        machine.file("root/other/zone", "TZif");
        machine.dir("root/etc");
        machine.link(target, "root/etc/localtime");
        match node(&machine.plan(), "/etc/localtime") {
            Some(Node::Link(link)) => assert!(stays && path_of(link) == Path::new(target)),
            Some(Node::File(bytes)) => assert!(!stays && bytes == b"TZif", "{target}"),
            other => assert!(!stays && other.is_none() && target.contains("var"), "{target}"),
        }
    }
}
