//! Members that are to end up somewhere else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use noxrunner_archive::MAX_DEPTH;

use super::support::*;

/// The names of everything that came out, with what files have in them.
fn contents(tree: &Tree) -> Vec<String> {
    let name = |line: &String| line.split(' ').next().unwrap().to_owned();
    tree.listing().iter().map(name).collect()
}

/// Unpacks next to a control file that must stay as it is; the archive may name it.
fn beside_a_control(made: impl Fn(&str) -> Made) -> (Tree, noxrunner_archive::Report) {
    let outside = Tree::new();
    let control = outside.at("control");
    fs::write(&control, "control").unwrap();
    let (tree, report) = unpack(&made(outside.path().to_str().unwrap()).end());
    assert_eq!(fs::read(&control).unwrap(), b"control");
    assert_eq!(fs::metadata(&control).unwrap().nlink(), 1);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    (tree, report)
}

#[test]
fn names_that_lead_out_end_up_inside() {
    let (tree, report) = beside_a_control(|outside| {
        Made::default()
            .file("../../../../../../../../etc/up", "1")
            .file(&format!("{outside}/control"), "2")
            .file("a/../../b", "3")
            .dir("..")
            .dir("/")
            .dir("./")
    });
    assert_eq!(contents(&tree), ["b", "control", "up"]);
    assert_eq!((report.rerooted, report.skipped_special, report.written), (3, 2, 3));
}

#[test]
fn nothing_is_written_through_a_link() {
    let (tree, report) = beside_a_control(|outside| {
        Made::default()
            // Left out, because they lead out; what follows makes directories of their names.
            .symlink("abs", outside)
            .file("abs/control", "1")
            .symlink("up", "../../../..")
            .file("up/tmp", "2")
            // Each stays by itself, together they would not.
            .dir("d/e")
            .symlink("d/e/in", "..")
            .file("d/e/in/f", "3")
            .symlink("file", "real")
            .file("real", "4")
            .file("file", "5")
            .symlink("dir", "d")
            .dir("dir")
            .file("dir/g", "6")
    });
    assert_eq!(report.skipped_links, 2);
    let want = [
        "abs/",
        "abs/control",
        "d/",
        "d/e/",
        "d/e/in/",
        "d/e/in/f",
        "dir/",
        "dir/g",
        "file",
        "real",
        "up/",
        "up/tmp",
    ];
    assert_eq!(contents(&tree), want);
    assert_eq!(fs::read(tree.at("real")).unwrap(), b"4");
    assert_eq!(fs::read(tree.at("file")).unwrap(), b"5");
}

#[test]
fn links_that_lead_out_are_left_out_and_others_are_not() {
    let made = Made::default()
        .symlink("a", "..")
        .symlink("b/c", "../..")
        .symlink("b/d", "../a")
        .symlink("e", "b/../..")
        .symlink("f", "/etc/passwd")
        .symlink("g", "");
    let (tree, report) = unpack(&made.end());
    assert_eq!(contents(&tree), ["b/", "b/d"]);
    assert_eq!((report.written, report.skipped_links), (1, 5));
}

#[test]
fn hard_links_are_only_to_files_that_were_unpacked() {
    let (tree, report) = beside_a_control(|outside| {
        Made::default()
            .hard_link("a", &format!("{outside}/control"))
            .hard_link("b", "../../../../etc/passwd")
            .symlink("link", "file")
            .hard_link("c", "link")
            .hard_link("d", "missing")
            .dir("dir")
            .hard_link("e", "dir")
            .hard_link("f", "link/file")
            .file("file", "1")
            .hard_link("g", "./file")
            .hard_link("g", "g")
            // Replaced, not written through.
            .file("g", "2")
            .hard_link("h", "file/x")
    });
    assert_eq!(contents(&tree), ["dir/", "file", "g", "link"]);
    assert_eq!(report.skipped_links, 7);
    assert_eq!(fs::read(tree.at("file")).unwrap(), b"1");
    assert_eq!(fs::read(tree.at("g")).unwrap(), b"2");
}

#[test]
fn devices_pipes_and_unknown_things_are_left_out() {
    let made = Made::default()
        .member("char", b'3', "", b"")
        .member("block", b'4', "", b"")
        .member("pipe", b'6', "", b"")
        .member("label", b'V', "", b"")
        .member("unknown", b'Z', "", b"some data that is passed over")
        .file("file", "1");
    let (tree, report) = unpack(&made.end());
    assert_eq!(contents(&tree), ["file"]);
    assert!(!fs::metadata(tree.at("file")).unwrap().file_type().is_fifo());
    assert_eq!((report.written, report.skipped_special), (1, 5));
}

#[test]
fn set_id_and_sticky_bits_are_taken_off() {
    let mut made = Made::default();
    for (name, flag, mode) in
        [(b"a", b'0', 0o4755), (b"b", b'0', 0o2755), (b"c", b'5', 0o1777), (b"d", b'0', 0o755)]
    {
        let mut header = Made::header(name, flag, 0, b"");
        header.set_mode(mode);
        header.set_cksum();
        made = made.raw(&header, b"");
    }
    let (tree, report) = unpack(&made.end());
    let mode = |name| fs::metadata(tree.at(name)).unwrap().mode() & 0o7777;
    assert_eq!(["a", "b", "c", "d"].map(mode), [0o755, 0o755, 0o777, 0o755]);
    assert_eq!(report.set_id_cleared, 3);
}

#[test]
fn a_name_is_not_both_a_directory_and_a_file() {
    for made in [
        Made::default().file("x", "").dir("x"),
        Made::default().file("x", "").file("x/y", ""),
        Made::default().dir("x").file("x", ""),
        Made::default().file("x/y", "").symlink("x", "z"),
        Made::default().file("z", "").dir("x").hard_link("x", "z"),
    ] {
        assert_damaged(&made.end(), "both a directory and a file named \"x\"");
    }
    assert_damaged(&Made::default().symlink(".", "x").end(), "whole tree");
    assert_damaged(&Made::default().file("", "x").end(), "whole tree");
}

#[test]
fn names_that_no_tree_has() {
    let pax = |path: &str| Made::default().pax(&[("path", path)]).file("f", "").end();
    assert_damaged(&pax("a\0b"), "NUL");
    assert_damaged(&pax(&"n".repeat(256)), "255");
    assert_damaged(&pax(&"d/".repeat(MAX_DEPTH + 2)), "deep");
    assert_damaged(&Made::default().pax(&[("linkpath", "a\0b")]).symlink("l", "x").end(), "link");
    let target = "t".repeat(4096);
    assert_damaged(&Made::default().pax(&[("linkpath", &target)]).symlink("l", "x").end(), "link");
}

#[test]
fn a_tree_as_deep_as_may_be() {
    let name = format!("{}file", format!("{}/", "n".repeat(200)).repeat(MAX_DEPTH));
    let first = format!("{}/first", "n".repeat(200));
    let made = Made::default()
        .pax(&[("path", &name)])
        .file("f", "deep")
        .pax(&[("path", &first)])
        .file("f", "1")
        .pax(&[("path", &name)])
        .file("f", "again");
    let (tree, report) = unpack(&made.end());
    assert_eq!(report.written, 3);
    assert!(tree.at(first).exists());
}
