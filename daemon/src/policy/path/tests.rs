//! What [`super`] decides.

use proptest::prelude::*;

use super::*;

const SANDBOX: &str = "/tmp/noxrunner_sandbox_x.1";

fn host() -> RootNames {
    RootNames::with_host_dir(Path::new(SANDBOX)).unwrap()
}

fn shown(path: &str, used_as: PathUse, names: &RootNames) -> (String, bool) {
    let inside = decide(path.as_bytes(), used_as, names).unwrap();
    (String::from_utf8(inside.display_path()).unwrap(), inside.redirected())
}

#[test]
fn paths_inside_stay_as_they_are() {
    for names in [RootNames::mount_tree(), host()] {
        for (path, want) in [
            ("", "/workspace"),
            (".", "/workspace"),
            ("a/b", "/workspace/a/b"),
            ("./a//b/.", "/workspace/a/b"),
            ("/workspace", "/workspace"),
            ("//workspace/", "/workspace"),
            ("/workspace/a/../b", "/workspace/b"),
            ("/../../workspace/a", "/workspace/a"),
            ("../workspace/a", "/workspace/a"),
            ("../tmp/a", "/tmp/a"),
            ("/home/nox/.config", "/home/nox/.config"),
            ("/tmp", "/tmp"),
            ("/tmp/...", "/tmp/..."),
            ("/etc/../tmp/x", "/tmp/x"),
        ] {
            for used_as in [PathUse::Directory, PathUse::File] {
                assert_eq!(shown(path, used_as, &names), (want.to_owned(), false), "{path}");
            }
        }
    }
}

#[test]
fn paths_outside_are_redirected_and_say_so() {
    for names in [RootNames::mount_tree(), host()] {
        for (path, file) in [
            ("/", "/workspace"),
            ("..", "/workspace"),
            ("/..", "/workspace"),
            ("/etc/passwd", "/workspace/passwd"),
            ("../../etc/passwd", "/workspace/passwd"),
            ("/workspacex/a", "/workspace/a"),
            ("/workspacex", "/workspace/workspacex"),
            ("/tmp/../etc", "/workspace/etc"),
            ("/home", "/workspace/home"),
            ("/home/noxy/a", "/workspace/a"),
            ("/Workspace/a", "/workspace/a"),
        ] {
            assert_eq!(shown(path, PathUse::File, &names), (file.to_owned(), true), "{path}");
            let directory = shown(path, PathUse::Directory, &names);
            assert_eq!(directory, ("/workspace".to_owned(), true), "{path}");
        }
    }
}

#[test]
fn without_a_mount_tree_the_hosts_names_lead_inside_too() {
    let names = host();
    for (below, want, redirected) in [
        ("/workspace/a", "/workspace/a", false),
        ("/home/.x", "/home/nox/.x", false),
        ("/tmp", "/tmp", false),
        ("/tmp/../workspace/b", "/workspace/b", false),
        ("/manifest.json", "/workspace/manifest.json", true),
        ("", "/workspace/noxrunner_sandbox_x.1", true),
        ("/workspacex/a", "/workspace/a", true),
        ("y/workspace/a", "/tmp/noxrunner_sandbox_x.1y/workspace/a", false),
        // Made inside to be confused with the sandbox's own directory.
        ("/tmp/noxrunner_sandbox_x.1/a", "/workspace/a", true),
    ] {
        let path = format!("{SANDBOX}{below}");
        let got = shown(&path, PathUse::File, &names);
        assert_eq!(got, (want.to_owned(), redirected), "{path}");
    }
    let manifest = format!("{SANDBOX}/manifest.json");
    let (path, redirected) = shown(&manifest, PathUse::File, &RootNames::mount_tree());
    assert_eq!((path, redirected), (manifest, false), "a name like any other in its own /tmp");
}

#[test]
fn a_nul_is_an_error_wherever_it_stands() {
    for path in [&b"\0"[..], b"/workspace/a\0", b"/etc/\0/passwd", b"\0/../workspace"] {
        for used_as in [PathUse::Directory, PathUse::File] {
            assert_eq!(decide(path, used_as, &host()), Err(PathError::Nul));
        }
    }
}

#[test]
fn a_sandboxs_directory_must_not_hide_the_workspace() {
    for dir in ["", "tmp/x", "/", "/x/..", "/workspace", "//workspace/."] {
        RootNames::with_host_dir(Path::new(dir)).expect_err(dir);
    }
}

/// Paths made of what could confuse, rather than of random letters.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just(b"..".to_vec()),
        2 => Just(b".".to_vec()),
        2 => Just(Vec::new()),
        3 => Just(b"workspace".to_vec()),
        2 => Just(b"tmp".to_vec()),
        1 => Just(b"home".to_vec()),
        1 => Just(b"nox".to_vec()),
        2 => Just(b"sb".to_vec()),
        1 => Just(b"noxrunner_sandbox_x.1".to_vec()),
        1 => Just(b"...".to_vec()),
        1 => Just(b"\\..".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    (any::<bool>(), prop::collection::vec(part, 0..12)).prop_map(|(absolute, parts)| {
        let mut path = if absolute { b"/".to_vec() } else { Vec::new() };
        path.extend(parts.join(&b'/'));
        path
    })
}

fn any_names() -> impl Strategy<Value = RootNames> {
    let dirs = [
        "/tmp/noxrunner_sandbox_x.1",
        "/workspace/sb",
        "/workspace/sb/tmp",
        "/home/nox",
        "/tmp",
        "/sb",
    ];
    let host = prop::sample::select(dirs.to_vec())
        .prop_map(|dir| RootNames::with_host_dir(Path::new(dir)).unwrap());
    prop_oneof![Just(RootNames::mount_tree()), host]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leads_out(path in mangled(), names in any_names(), file in any::<bool>()) {
        let used_as = if file { PathUse::File } else { PathUse::Directory };
        let decided = decide(&path, used_as, &names);
        prop_assert_eq!(decided.is_err(), path.contains(&0));
        let Ok(inside) = decided else { return Ok(()) };

        let rest = inside.rest().as_os_str().as_bytes();
        prop_assert!(!rest.starts_with(b"/") && !rest.contains(&0));
        if !rest.is_empty() {
            for part in rest.split(|byte| *byte == b'/') {
                prop_assert!(!matches!(part, b"" | b"." | b".."), "{:?}", inside);
            }
        }
        if inside.redirected() {
            prop_assert_eq!(inside.root(), Root::Workspace);
            prop_assert!(inside.rest().components().count() <= usize::from(file));
        }
        let again = decide(&inside.display_path(), used_as, &names).unwrap();
        prop_assert!(!again.redirected(), "{:?} again is {:?}", inside, again);
        prop_assert_eq!(again.root(), inside.root());
        prop_assert_eq!(again.rest(), inside.rest());
    }
}
