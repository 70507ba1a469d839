//! Listing a directory, describing an entry.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use noxrunner_tests::{TestDaemon, in_both_tiers};
use serde_json::{Value, json};

use super::{call, inside, refused, with_sandbox};

in_both_tiers!(everything_is_described_as_stat_does);

fn everything_is_described_as_stat_does(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    inside(
        &daemon,
        "mkdir d; printf 12345 > f; ln -s f link; mkfifo p; \
         python3 -c 'import os, socket\nsocket.socket(socket.AF_UNIX).bind(\"sock\")\n\
         os.chmod(\"f\", 0o640)\nos.utime(\"f\", ns=(0, 1234567890123456789))'",
    );
    let list = call(&daemon, "file.list", json!({}));
    assert_eq!(list["redirected"], false);
    let entries = list["entries"].as_array().unwrap();
    let kinds: Vec<(&str, &str)> = entries
        .iter()
        .map(|e| (e["name"].as_str().unwrap(), e["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        kinds,
        [("d", "directory"), ("f", "file"), ("link", "symlink"), ("p", "fifo"), ("sock", "socket")]
    );
    assert_eq!(
        entries[1],
        json!({"name": "f", "type": "file", "size": 5, "mode": 0o640,
            "modifiedAt": "2009-02-13T23:31:30.123456789Z"})
    );
    assert_eq!((&entries[2]["target"], &entries[2]["mode"]), (&json!("f"), &json!(0o777)));
    for entry in entries {
        let mut stat = call(&daemon, "file.stat", json!({"path": entry["name"]}));
        assert_eq!(stat.as_object_mut().unwrap().remove("redirected"), Some(json!(false)));
        assert_eq!(stat, *entry);
    }
    let stat = call(&daemon, "file.stat", json!({}));
    assert_eq!((&stat["name"], &stat["type"]), (&json!("workspace"), &json!("directory")));
    // Through a link on the way, not through the last one.
    inside(&daemon, "ln -s d to_d; echo > d/in");
    assert_eq!(call(&daemon, "file.stat", json!({"path": "to_d"}))["type"], "symlink");
    assert_eq!(call(&daemon, "file.stat", json!({"path": "to_d/in"}))["type"], "file");
    assert_eq!(call(&daemon, "file.list", json!({"path": "to_d"}))["entries"][0]["name"], "in");
}

#[test]
fn a_directory_outside_becomes_the_workspace() {
    let daemon = with_sandbox(TestDaemon::start());
    inside(&daemon, "touch only-here");
    for path in ["/", "/etc", "../..", "/home"] {
        let list = call(&daemon, "file.list", json!({"path": path}));
        let names: Vec<&Value> =
            list["entries"].as_array().unwrap().iter().map(|e| &e["name"]).collect();
        assert_eq!(
            (names, &list["redirected"]),
            (vec![&json!("only-here")], &json!(true)),
            "{path}"
        );
    }
    let (kind, message) = refused(&daemon, "file.list", json!({"path": "only-here"}));
    assert!(kind == "conflict" && message.contains("not a directory"), "{message}");
    assert_eq!(refused(&daemon, "file.list", json!({"path": "none"})).0, "fileNotFound");
}

#[test]
fn names_of_every_kind_can_be_named() {
    let daemon = with_sandbox(TestDaemon::start());
    let workspace = daemon.workspace("s");
    let odd: [&[u8]; 8] = [
        b"new\nline",
        b"\xff\xfe",
        b"caf\xe9",
        b" ",
        b"-rf",
        b"\"\\",
        &[b'x'; 255],
        "日本".as_bytes(),
    ];
    for name in odd {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(name);
        let params = json!({"pathBase64": base64, "data": "content"});
        call(&daemon, "file.write", params);
        let host = workspace.join(OsStr::from_bytes(name));
        assert_eq!(fs::read(&host).unwrap(), b"content", "{name:?}");
        let list = call(&daemon, "file.list", json!({}));
        let entry = &list["entries"][0];
        assert_eq!(entry["name"], String::from_utf8_lossy(name).as_ref());
        let is_text = std::str::from_utf8(name).is_ok();
        assert_eq!(entry.get("nameBase64"), (!is_text).then_some(&json!(base64)));
        // What the list gives finds it again.
        let again = match entry.get("nameBase64") {
            Some(base64) => json!({"pathBase64": base64}),
            None => json!({"path": entry["name"]}),
        };
        assert_eq!(call(&daemon, "file.read", again.clone())["data"], "content");
        call(&daemon, "file.rename", json!({"fromBase64": base64, "to": "plain"}));
        call(&daemon, "file.rename", json!({"from": "plain", "toBase64": base64}));
        call(&daemon, "file.remove", again);
        assert_eq!(fs::read_dir(&workspace).unwrap().count(), 0, "{name:?}");
    }
    // Where a link leads may be odd, too.
    std::os::unix::fs::symlink(OsStr::from_bytes(b"\xff"), workspace.join("link")).unwrap();
    let stat = call(&daemon, "file.stat", json!({"path": "link"}));
    assert_eq!((&stat["target"], &stat["targetBase64"]), (&json!("\u{fffd}"), &json!("/w==")));
}

#[test]
fn a_directory_with_more_than_an_answer_holds_is_refused() {
    let daemon = with_sandbox(TestDaemon::start());
    let script = "import os\nos.mkdir('d')\n\
        for i in range(50000): os.close(os.open(f'd/{i}', os.O_CREAT | os.O_WRONLY))";
    let made = daemon.exec("s", &["python3", "-c", script]);
    assert_eq!(made.exit_code, 0, "{}", made.stderr);
    let list = call(&daemon, "file.list", json!({"path": "d"}));
    assert_eq!(list["entries"].as_array().unwrap().len(), 50_000);
    inside(&daemon, "touch d/one-more");
    let (kind, message) = refused(&daemon, "file.list", json!({"path": "d"}));
    assert!(kind == "payloadTooLarge" && message.contains("50000"), "{kind}: {message}");
}
