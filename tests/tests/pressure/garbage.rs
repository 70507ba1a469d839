//! What is no request, or one that makes no sense.

use noxrunner_tests::TestDaemon;
use noxrunner_tests::doors::DOORS;
use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::wire::{refusal, request};
use serde_json::{Value, json};

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#)
}

fn with_id(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"health"}}"#)
}

/// What is sent, the kind of its error, and the id of its answer.
fn garbage() -> Vec<(Vec<u8>, &'static str, Value)> {
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(200_000), close.repeat(200_000));
    let (arrays, objects) = (deep("[", "]"), deep(r#"{"a":"#, ""));
    let batch = |n| {
        Value::Array(
            (0..n)
                .map(|id| request(id, "sandbox.create", json!({"sessionId": format!("b{id}")})))
                .collect(),
        )
    };
    let (null, seven) = (Value::Null, json!(7));
    let mut all: Vec<(Vec<u8>, &str, Value)> = Vec::new();
    let mut add = |text: String, kind, id: &Value| all.push((text.into_bytes(), kind, id.clone()));
    // Nested 200,000 deep, wherever that can be: JSON knows no bound of depth, a request is flat.
    add(objects.clone(), "parseError", &null);
    add(call("health", &objects), "parseError", &null);
    add(with_id(&arrays), "invalidRequest", &null);
    add(call(&arrays, "{}"), "methodNotFound", &seven);
    add(call("health", &arrays), "invalidArgument", &seven);
    for method in ["health", "sandbox.exec"] {
        let params = format!(r#"{{"sessionId":"s","cmd":["true"],"env":{arrays}}}"#);
        add(call(method, &params), "invalidArgument", &seven);
    }
    add(format!(r#"{{"jsonrpc":"2.0","id":7,"method":{arrays}}}"#), "invalidRequest", &null);
    // Numbers out of range.
    for number in ["1e999", "-1e999", "18446744073709551616", "-1", "0", "1.5", "4294967296"] {
        let params = format!(r#"{{"sessionId":"s","ttlSeconds":{number}}}"#);
        add(call("sandbox.create", &params), "invalidArgument", &seven);
    }
    for number in ["1e999", "-1", "0", "86401", "1e300"] {
        let params = format!(r#"{{"sessionId":"s","cmd":["true"],"timeoutSeconds":{number}}}"#);
        add(call("sandbox.exec", &params), "invalidArgument", &seven);
    }
    for number in ["18446744073709551616", "-1", "1e3", "9e999"] {
        let params = format!(r#"{{"sessionId":"s","path":"x","offset":{number}}}"#);
        add(call("file.read", &params), "invalidArgument", &seven);
    }
    for number in ["01", "+1", "1.", ".5", "0x1", "NaN", "Infinity", "1e"] {
        add(call("health", number), "parseError", &null);
    }
    // NULs, control characters, lone surrogates.
    for text in [r"\u0000", r"a\u0000b", r"\u001b[2J", r"\u0085", r"\n"] {
        let params = format!(r#"{{"sessionId":"{text}"}}"#);
        add(call("sandbox.get", &params), "invalidArgument", &seven);
    }
    add("\0".to_owned(), "parseError", &null);
    add(call("sandbox.get", "{\"sessionId\":\"a\0b\"}"), "parseError", &null);
    add(call("sandbox.exec", r#"{"sessionId":"s","cmd":["a\u0000b"]}"#), "invalidArgument", &seven);
    for text in [r"\ud800", r"\udc00", r"\ud800\ud800", r"a\udfffb", r"\ud800x"] {
        let params = format!(r#"{{"sessionId":"{text}"}}"#);
        add(call("sandbox.get", &params), "invalidArgument", &seven);
        add(call(text, "{}"), "invalidRequest", &null);
        add(with_id(&format!(r#""{text}""#)), "invalidRequest", &null);
        add(call("sandbox.get", &format!(r#"{{"{text}":1}}"#)), "invalidArgument", &seven);
    }
    // Ids that are none.
    for id in
        ["-1", "-0", "1.0", "1e0", "18446744073709551616", "1e999", "true", "[1]", r#"{"a":1}"#]
    {
        add(with_id(id), "invalidRequest", &null);
    }
    // Batches.
    add(batch(10_000).to_string(), "limitExceeded", &null);
    add(batch(65).to_string(), "limitExceeded", &null);
    add(format!("[{}1]", "1,".repeat(9_999)), "limitExceeded", &null);
    add("[]".to_owned(), "invalidRequest", &null);
    // Names and params of the wrong kind.
    add(call("health\\u0000", "{}"), "methodNotFound", &seven);
    add(call("rpc.nothing", "{}"), "methodNotFound", &seven);
    add(call("", "{}"), "methodNotFound", &seven);
    for params in ["[]", "[1]", "1", r#""x""#, "true"] {
        add(call("sandbox.get", params), "invalidArgument", &seven);
    }
    add(call("sandbox.get", r#"{"sessionId":"s","sessionId":"s"}"#), "invalidArgument", &seven);
    add(
        call("sandbox.get", r#"{"sessionId":"s","nosuch\n\u001b[31m":1}"#),
        "invalidArgument",
        &seven,
    );
    let mut add = |text: &[u8], kind, id: &Value| all.push((text.to_vec(), kind, id.clone()));
    // Not UTF-8: bytes of nothing, cut, overlong, of a surrogate, beyond the last character.
    for bytes in
        [&b"\xff"[..], b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xfe\xff"]
    {
        add(bytes, "parseError", &null);
        let text =
            [b"{\"jsonrpc\":\"2.0\",\"id\":\"", bytes, b"\",\"method\":\"health\"}"].concat();
        add(&text, "parseError", &null);
    }
    add(b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"}", "parseError", &null);
    all
}

#[test]
fn each_gets_its_error_through_every_door_and_the_connection_goes_on() {
    let daemon = TestDaemon::start();
    let other = Meanwhile::of(&daemon);
    for door in DOORS {
        let mut visitor = door.open(&daemon.socket);
        for (n, (bytes, kind, id)) in garbage().iter().enumerate() {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
            visitor.say(bytes);
            let answer = visitor.hear();
            let (got, message) = refusal(&answer);
            assert_eq!((got.as_str(), &answer["id"]), (*kind, id), "{door:?} {shown}: {message}");
            assert!(
                !message.contains(char::is_control) && message.chars().count() <= 2_001,
                "{message:?}"
            );
            // A control now and then: the same connection, a good request.
            if n % 16 == 0 {
                visitor.say(with_id(&n.to_string()));
                let answer = visitor.hear();
                assert_eq!((&answer["id"], &answer["result"]["status"]), (&json!(n), &json!("ok")));
            }
        }
    }
    other.noticed_nothing();
    assert_eq!(daemon.directories(), [""; 0], "something of it was carried out");
}

#[test]
fn a_batch_of_one_that_is_nested_deep_is_a_batch_with_one_that_is_no_request() {
    let daemon = TestDaemon::start();
    for door in DOORS {
        let mut visitor = door.open(&daemon.socket);
        visitor.say([b"[".repeat(200_000), b"]".repeat(200_000)].concat());
        let answer = visitor.hear();
        let answers = answer.as_array().unwrap();
        assert_eq!((answers.len(), refusal(&answers[0]).0.as_str()), (1, "invalidRequest"));
    }
}

#[test]
fn odd_ids_that_are_allowed_come_back_through_every_door() {
    let daemon = TestDaemon::start();
    let long = format!("\"{}\"", "\\u0000".repeat(100_000));
    let odd = [
        "0",
        "18446744073709551615",
        "null",
        r#""""#,
        r#""\u0000\n\ud83d\ude00""#,
        r#""1""#,
        &long,
    ];
    for door in DOORS {
        let mut visitor = door.open(&daemon.socket);
        for id in odd {
            visitor.say(with_id(id));
            let answer = visitor.hear();
            assert_eq!(answer["id"], serde_json::from_str::<Value>(id).unwrap());
            assert_eq!(answer["result"]["status"], "ok");
        }
    }
}
