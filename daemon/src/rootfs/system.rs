//! The system: its programs, and as much of `/etc` as they need.

use std::fs;
use std::path::{Path, PathBuf};

use super::builder::Builder;
use super::view::resolved;
use super::watch::{Watch, family};

/// Shown as they are.
const TREES: [&str; 4] = ["usr", "opt", "nix/store", "snap"];

/// Links into `/usr` on most systems, directories on others.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Files of `/etc` that are copied: they are replaced by renaming.
const ETC_FILES: [&str; 14] = [
    "bash.bashrc",
    "debian_version",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "locale.alias",
    "mime.types",
    "os-release",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "timezone",
];

/// Directories of `/etc` that are bound. None of them holds secrets: `ssl/private` is not one.
const ETC_TREES: [&str; 11] = [
    "R",
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "ld.so.conf.d",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "ssl/certs",
    "terminfo",
];

/// Directories of `/etc` whose names have a version at the end.
const ETC_FAMILIES: [&str; 3] = ["ImageMagick-", "java-", "python3"];

const GROUP: &str = "root:x:0:\nnox:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str =
    "127.0.0.1\tlocalhost\n127.0.1.1\tsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const RESOLV_CONF: &str = "# There is no network in this sandbox.\n";
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
";

/// Adds the programs of the system.
pub(super) fn programs(builder: &mut Builder<'_>) {
    let root = builder.host.root.clone();
    for name in TREES {
        builder.system_tree(&root.join(name), Path::new("/").join(name));
    }
    for name in MERGED {
        let (source, target) = (root.join(name), Path::new("/").join(name));
        builder.watches.push(Watch::link(&source));
        let link = fs::read_link(&source).ok().filter(|leads_to| {
            let leads_to = resolved(&Path::new("/").join(leads_to));
            TREES.iter().any(|tree| leads_to.starts_with(Path::new("/").join(tree)))
        });
        match link {
            Some(leads_to) => builder.link(target, leads_to),
            // A link elsewhere would lead nowhere in a sandbox.
            None => builder.system_tree(&source, target),
        }
    }
}

/// Adds `/etc`.
pub(super) fn etc(builder: &mut Builder<'_>) {
    let etc = builder.host.root.join("etc");
    let bash = builder.host.root.join("bin/bash").exists();
    let shell = if bash { "/bin/bash" } else { "/bin/sh" };
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n\
         nox:x:1000:1000:NoxRunner sandbox:/home/nox:{shell}\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let own = [
        ("/etc/passwd", passwd.as_str()),
        ("/etc/group", GROUP),
        ("/etc/hosts", HOSTS),
        ("/etc/hostname", "sandbox\n"),
        ("/etc/resolv.conf", RESOLV_CONF),
        ("/etc/nsswitch.conf", NSSWITCH),
    ];
    for (target, text) in own {
        builder.own_file(target, text.into());
    }
    for name in ETC_FILES {
        builder.system_file(&etc.join(name), Path::new("/etc").join(name));
    }
    local_time(builder, &etc.join("localtime"));
    for name in ETC_TREES {
        builder.system_tree(&etc.join(name), Path::new("/etc").join(name));
    }
    for prefix in ETC_FAMILIES {
        builder.watches.push(Watch::family(&etc, prefix));
        for name in family(&etc, prefix) {
            builder.system_tree(&etc.join(&name), Path::new("/etc").join(&name));
        }
    }
}

/// Programs take the time zone's name from where the link leads, so it stays one where it can.
fn local_time(builder: &mut Builder<'_>, source: &Path) {
    let target = PathBuf::from("/etc/localtime");
    builder.watches.push(Watch::link(source));
    let link = fs::read_link(source).ok();
    let zone = link.filter(|leads_to| {
        resolved(&Path::new("/etc").join(leads_to)).starts_with("/usr/share/zoneinfo")
    });
    match zone {
        Some(leads_to) => builder.link(target, leads_to),
        None => builder.system_file(source, target),
    }
}
