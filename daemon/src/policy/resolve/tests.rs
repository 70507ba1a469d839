use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// A directory that commands see as it is, with the workspace in it.
struct Host {
    dir: tempfile::TempDir,
    names: RootNames,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("workspace")).unwrap();
        let names = RootNames::with_host_dir(dir.path()).unwrap();
        Self { dir, names }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("workspace").join(name)
    }

    fn file(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    /// Resolves in the directory `workdir` of the workspace.
    fn resolve_in(&self, workdir: &str, argv0: &str, path: &str) -> (Option<PathBuf>, Vec<String>) {
        let host_path = |inside: &Inside| {
            Some(self.dir.path().join(inside.root().host_name()).join(inside.rest()))
        };
        let workdir = decide(workdir.as_bytes(), PathUse::Directory, &self.names).unwrap();
        let view = View { names: &self.names, host_path: &host_path, shown: None };
        let search = Search { view, path: OsStr::new(path), workdir: &workdir };
        let Resolved { program, names } = resolve(OsStr::new(argv0), search);
        (program, names.into_iter().map(|name| name.into_string().unwrap()).collect())
    }

    fn resolve(&self, argv0: &str, path: &str) -> (Option<PathBuf>, Vec<String>) {
        self.resolve_in("", argv0, path)
    }
}

#[test]
fn a_chain_of_links_gives_every_name_on_it() {
    let host = Host::new();
    let file = host.file("bin/tool", 0o755);
    host.link(&file, "absolute");
    host.link("bin/../absolute", "relative");
    host.link("./relative", "first");
    let names: Vec<String> = ["first", "relative", "absolute", "tool"].map(String::from).into();
    assert_eq!(host.resolve("./first", ""), (Some(file.clone()), names));
    let path = host.at("").into_os_string().into_string().unwrap();
    assert_eq!(host.resolve("relative", &path).0, Some(file));
}

#[test]
fn a_directory_that_is_a_link_is_walked_but_gives_no_name() {
    let host = Host::new();
    let file = host.file("real/deep/tool", 0o755);
    host.link("real/deep", "rm");
    assert_eq!(host.resolve("rm/tool", ""), (Some(file.clone()), vec!["tool".to_owned()]));
    assert_eq!(host.resolve("rm/../deep/tool", "").0, Some(file), ".. is of where the link led");
    assert_eq!(host.resolve("rm/./tool/", "").0, None, "a file is no directory");
    assert_eq!(host.resolve("rm/tool/..", "").0, None);
}

#[test]
fn links_that_lead_nowhere_give_their_names_and_no_program() {
    let host = Host::new();
    host.link("/nonexistent/rm", "dangling");
    assert_eq!(host.resolve("./dangling", ""), (None, vec!["dangling".into(), "rm".into()]));
    host.link("b", "a");
    host.link("a", "b");
    let (program, names) = host.resolve("./a", "");
    assert_eq!((program, names.len()), (None, MAX_LINKS + 1));
}

#[test]
fn as_many_links_are_followed_as_the_kernel_follows() {
    let host = Host::new();
    let file = host.file("l0", 0o755);
    for n in 1..=MAX_LINKS + 1 {
        host.link(format!("l{}", n - 1), &format!("l{n}"));
    }
    let (most, too_many) = (format!("./l{MAX_LINKS}"), format!("./l{}", MAX_LINKS + 1));
    assert_eq!(host.resolve(&most, "").0, Some(file));
    fs::metadata(host.at(&most)).expect("the kernel follows these");
    assert_eq!(host.resolve(&too_many, "").0, None);
    fs::metadata(host.at(&too_many)).expect_err("the kernel refuses these");
}

#[test]
fn the_path_gives_the_first_regular_file_that_may_be_executed() {
    let host = Host::new();
    fs::create_dir_all(host.at("a/tool")).unwrap();
    host.file("b/tool", 0o644);
    let third = host.file("c/tool", 0o755);
    host.file("d/tool", 0o755);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|dir| host.at(dir).display().to_string());
    assert_eq!(host.resolve("tool", &format!("/nonexistent:{a}:{b}:{c}:{d}")).0, Some(third));
    assert_eq!(host.resolve("tool", &format!("{a}:{b}")).0, None);
    assert_eq!(host.resolve("./b/tool", &c).0, None, "a path is not searched for");
}

#[test]
fn an_empty_or_relative_entry_is_of_the_working_directory() {
    let host = Host::new();
    let file = host.file("sub/tool", 0o755);
    for path in ["", ":/usr/bin", "/usr/bin:", "/nonexistent::/usr/bin", "."] {
        let path = path.replace("/usr/bin", "/nonexistent");
        assert_eq!(host.resolve_in("sub", "tool", &path).0, Some(file.clone()), "{path:?}");
        assert_eq!(host.resolve("tool", &path).0, None, "{path:?}");
    }
    assert_eq!(host.resolve("tool", "sub").0, Some(file));
    assert_eq!(host.resolve("", "/usr/bin").0, None);
}

#[test]
fn what_the_kernel_finds_too_long_is_not_walked() {
    let host = Host::new();
    host.file("tool", 0o755);
    let long = format!("./{}tool", "./".repeat(PATH_MAX / 2));
    assert_eq!(host.resolve(&long, "").0, None);
    assert_eq!(host.resolve("tool", &":".repeat(MAX_ARG_STRLEN)).0, None);
    assert!(host.resolve("tool", &":".repeat(100)).0.is_some());
}

#[test]
fn with_a_mount_tree_absolute_links_lead_where_commands_see_them_lead() {
    let host = Host::new();
    let file = host.file("bin/rm", 0o755);
    host.link("/workspace/bin/rm", "link");
    host.link("/home/../workspace/link", "up");
    host.link(&file, "host");
    let names = RootNames::mount_tree();
    let host_path = |inside: &Inside| Some(host.at("").join(inside.rest()));
    let workdir = decide(b"bin", PathUse::Directory, &names).unwrap();
    let search = Search {
        view: View { names: &names, host_path: &host_path, shown: None },
        path: OsStr::new("/workspace"),
        workdir: &workdir,
    };
    let find = |argv0: &str| resolve(OsStr::new(argv0), search);
    let want = Some(PathBuf::from("/workspace/bin/rm"));
    for argv0 in ["link", "up", "/workspace/link", "../link", "./rm"] {
        assert_eq!(find(argv0).program, want, "{argv0}");
        assert!(find(argv0).names.contains(&"rm".into()), "{argv0}");
    }
    assert_eq!(find("host").program, None, "the host's /tmp is not the sandbox's");
    let upwards = Search { path: OsStr::new("/usr/../workspace/bin"), ..search };
    assert_eq!(resolve(OsStr::new("rm"), upwards).program, want);

    let nowhere = View { names: &names, host_path: &|_| None, shown: None };
    let search = Search {
        view: nowhere,
        path: OsStr::new("/usr/nonexistent:/workspace:/usr/bin:/bin"),
        ..search
    };
    assert_eq!(resolve(OsStr::new("./link"), search).program, None);
    assert!(resolve(OsStr::new("ls"), search).program.is_some(), "the system's programs exist");
}

#[test]
fn what_a_mount_tree_does_not_show_is_absent() {
    let host = Host::new();
    let file = host.file("tools/bin/tool", 0o755);
    host.link("/shown/bin/tool", "link");
    let names = RootNames::mount_tree();
    let host_path = |inside: &Inside| Some(host.at("").join(inside.rest()));
    let workdir = decide(b"", PathUse::Directory, &names).unwrap();
    let tools = file.ancestors().nth(2).unwrap();
    let shown = |path: &Path| path.strip_prefix("/shown").ok().map(|rest| tools.join(rest));
    let view = View { names: &names, host_path: &host_path, shown: Some(&shown) };
    let find = |argv0: &str, path: &str| {
        resolve(OsStr::new(argv0), Search { view, path: OsStr::new(path), workdir: &workdir })
    };
    let want = Some(PathBuf::from("/shown/bin/tool"));
    assert_eq!(find("tool", "/shown/bin").program, want);
    assert_eq!(find("./link", "").program, want);
    assert_eq!(find("/shown/bin/other", "").program, None);
    // The host has these, the mount tree does not.
    assert_eq!(find(file.to_str().unwrap(), "").program, None);
    assert_eq!(find("sh", "/usr/bin:/bin").program, None);

    // The same /usr as the host's is searched as quickly as ever.
    let usr = |path: &Path| path.starts_with("/usr").then(|| path.to_owned());
    let view = View { shown: Some(&usr), ..view };
    let search = Search { view, path: OsStr::new("/usr/nonexistent:/usr/bin"), workdir: &workdir };
    assert!(resolve(OsStr::new("env"), search).program.is_some());
    // But not where another directory stands in for it.
    let instead = |path: &Path| path.strip_prefix("/usr").ok().map(|rest| tools.join(rest));
    let view = View { shown: Some(&instead), ..view };
    let search = Search { view, path: OsStr::new("/usr/bin"), workdir: &workdir };
    assert_eq!(resolve(OsStr::new("tool"), search).program, Some(PathBuf::from("/usr/bin/tool")));
}
