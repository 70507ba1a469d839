//! Several users of one machine, and one backend that knows only the front.

use noxrunner_tests::TestDaemon;
use serde_json::json;

use super::server::{Reply, Server};

#[test]
fn the_daemons_own_user_has_its_ids_as_they_are() {
    let server = Server::new(|_, _| Reply::created());
    let front = TestDaemon::front_of(&server.url, &[]);
    front.create("u1001.s");
    assert_eq!(server.count("PUT /v1/sandboxes/u1001.s"), 1);
    let info = front.call("sandbox.get", json!({"sessionId": "u1001.s"})).unwrap();
    assert_eq!(info["ownerUid"], nix::unistd::geteuid().as_raw());
    let (kind, message) = front.refused("sandbox.get", json!({"sessionId": "s"}));
    assert!(kind == "unsupported" && message.contains("does not describe"), "{kind}: {message}");
}

mod root_only {
    use noxrunner_tests::users::curl_as;

    use super::*;

    /// No user of this machine's.
    const OTHER: u32 = 65_533;

    #[test]
    fn two_users_of_one_id_do_not_meet() {
        let server = Server::new(|_, _| Reply::created());
        let arguments = ["--http", "127.0.0.1:0", "--http-allow-uid", "65533"];
        let front = TestDaemon::front_of(&server.url, &arguments);
        front.create("s");
        let put = ["--request", "PUT"];
        assert!(curl_as(OTHER, &front, &put, "/v1/sandboxes/s").ends_with(" 200"));
        let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
        assert_eq!(lines, ["PUT /v1/sandboxes/s", "PUT /v1/sandboxes/u65533.s"]);
        // Root sees all, by the names that lead there.
        let all = front.call("sandbox.list", json!({})).unwrap();
        let seen = |n: usize| {
            (all["sandboxes"][n]["sessionId"].clone(), all["sandboxes"][n]["ownerUid"].clone())
        };
        assert_eq!((seen(0), seen(1)), ((json!("s"), json!(0)), (json!("u65533.s"), json!(OTHER))));
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "sandbox.list"}).to_string();
        let post = ["--header", "content-type: application/json", "--data", &list];
        let own = curl_as(OTHER, &front, &post, "/");
        let own: serde_json::Value =
            serde_json::from_str(own.strip_suffix(" 200").unwrap()).unwrap();
        let own = own["result"]["sandboxes"].as_array().unwrap().clone();
        assert_eq!((own.len(), &own[0]["sessionId"]), (1, &json!("s")));
        let long = "x".repeat(256);
        let refused = curl_as(OTHER, &front, &put, &format!("/v1/sandboxes/{long}"));
        assert!(refused.ends_with(" 400") && refused.contains("u65533."), "{refused}");
        assert_eq!(server.asked().len(), 2);
    }
}
