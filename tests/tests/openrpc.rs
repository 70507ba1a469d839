//! The OpenRPC document: where it is had, and what others make of it. It is held against OpenRPC's
//! own meta-schema, and a client that a generator makes of it works in a sandbox.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use noxrunner_protocol::method;
use noxrunner_tests::archive::curl;
use noxrunner_tests::{TestDaemon, run, text};
use serde_json::{Value, json};
use tempfile::TempDir;

fn discover(daemon: &TestDaemon) -> Value {
    daemon.call("rpc.discover", json!({})).unwrap()
}

#[test]
fn the_document_is_the_same_by_every_way() {
    let daemon = TestDaemon::start();
    let document = discover(&daemon);
    assert_eq!(document["methods"].as_array().unwrap().len(), method::NAMES.len());

    let written = ["-w", "\n%{http_code} %{content_type} %header{allow}"];
    let ask = |more: &[&str]| {
        let output = run(curl(&daemon, "/openrpc.json").args(written).args(more));
        let answer = text(&output.stdout);
        let (body, end) = answer.rsplit_once('\n').unwrap();
        (serde_json::from_str::<Value>(body).unwrap(), end.to_owned())
    };
    assert_eq!(ask(&[]), (document.clone(), "200 application/json ".to_owned()));
    for method in ["POST", "PUT", "DELETE"] {
        let (answer, end) = ask(&["-X", method]);
        assert_eq!(end, "405 application/json GET", "{method}");
        assert!(answer["error"].as_str().unwrap().contains("GET"), "{answer}");
    }

    for (arguments, lines) in [(&["openrpc"][..], 1000..), (&["--json", "openrpc"], 1..)] {
        let output = run(&mut daemon.noxctl(arguments));
        let printed = text(&output.stdout);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        assert!(lines.contains(&printed.lines().count()), "{arguments:?}: {printed}");
        assert_eq!(printed.lines().count() == 1, arguments.contains(&"--json"));
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), document);
    }
}

/// Calls back with a schema and each one in it, but for bare references.
fn schemas(schema: &Value, each: &mut impl FnMut(&Value)) {
    let members = schema.as_object().unwrap_or_else(|| panic!("no object: {schema}"));
    if members.len() == 1 && members.contains_key("$ref") {
        return;
    }
    each(schema);
    for (name, member) in members {
        match name.as_str() {
            "properties" => member.as_object().unwrap().values().for_each(|s| schemas(s, each)),
            "oneOf" | "anyOf" | "allOf" => {
                member.as_array().unwrap().iter().for_each(|s| schemas(s, each));
            }
            "items" | "additionalProperties" => schemas(member, each),
            "title" | "description" | "default" | "examples" | "type" | "const" | "enum"
            | "required" | "minimum" | "maximum" | "exclusiveMinimum" | "minLength"
            | "maxLength" | "pattern" => {}
            other => panic!("{other:?} is news to this test: {schema}"),
        }
    }
}

#[test]
fn every_schema_has_a_name_of_its_own_and_says_nothing_that_only_rust_knows() {
    let daemon = TestDaemon::start();
    let document = discover(&daemon);
    let methods = document["methods"].as_array().unwrap();
    let described = methods.iter().flat_map(|method| {
        let params = method["params"].as_array().unwrap();
        params.iter().chain([&method["result"]]).map(|descriptor| &descriptor["schema"])
    });
    let components = document["components"]["schemas"].as_object().unwrap();
    let mut titles = BTreeMap::<String, u32>::new();
    let mut look = |schema: &Value| {
        let title = schema["title"].as_str().unwrap_or_else(|| panic!("no title: {schema}"));
        *titles.entry(title.to_owned()).or_default() += 1;
        // "format" would be one of Rust's, and what is beside a reference is read by nobody.
        assert_eq!((schema.get("format"), schema.get("$ref")), (None, None), "{schema}");
        let kind = schema.get("type");
        assert!(kind.is_none_or(Value::is_string), "several types: {schema}");
        let said = schema["description"].as_str().unwrap_or_default();
        assert!(!said.contains("```"), "{said}");
    };
    described.chain(components.values()).for_each(|schema| schemas(schema, &mut look));
    assert!(titles.len() > 150, "{titles:?}");
    // A generator calls a method's own type so.
    for name in method::NAMES {
        let words = name.split('.').map(|word| word[..1].to_uppercase() + &word[1..]);
        *titles.entry(words.collect()).or_default() += 1;
    }
    let twice: Vec<_> = titles.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");

    for method in methods {
        let name = &method["name"];
        let examples = method["examples"].as_array().map_or(0, Vec::len);
        assert_eq!(examples, usize::from(name != "rpc.discover"), "{name}");
    }
}

/// What is installed for a test, with the packages whose versions are locked beside their list.
struct Node {
    dir: TempDir,
}

impl Node {
    #[track_caller]
    fn install() -> Self {
        let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        for (name, content) in [
            ("package.json", include_str!("../clients/openrpc/package.json")),
            ("package-lock.json", include_str!("../clients/openrpc/package-lock.json")),
            ("check.js", include_str!("../clients/openrpc/check.js")),
            ("component.js", include_str!("../clients/openrpc/component.js")),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let node = Self { dir };
        let npm = Command::new("npm").arg("--version").stdin(Stdio::null()).output();
        assert!(npm.is_ok(), "npm is missing: apt-get install npm");
        // Longer than `run` gives: the first time all of it is fetched.
        let mut install = Command::new("timeout");
        install.args([
            "150",
            "npm",
            "ci",
            "--ignore-scripts",
            "--prefer-offline",
            "--no-audit",
            "--no-fund",
        ]);
        let output = install.current_dir(&node.dir).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "npm ci: {}", text(&output.stderr));
        node
    }

    /// What a program prints that succeeds.
    #[track_caller]
    fn done(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        let output = run(command.args(arguments).current_dir(&self.dir).stdin(Stdio::null()));
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{program} {arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// What is wrong with documents, or `valid` and the number of examples in them.
    #[track_caller]
    fn check<const N: usize>(&self, documents: [&Value; N]) -> [String; N] {
        let names: Vec<String> = (0..N).map(|n| format!("document{n}.json")).collect();
        for (name, document) in names.iter().zip(documents) {
            fs::write(self.dir.path().join(name), document.to_string()).unwrap();
        }
        let names = names.iter().map(String::as_str);
        let said = self.done("node", &["check.js"].into_iter().chain(names).collect::<Vec<_>>());
        said.lines().map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
    }

    /// Generates a client, and compiles it together with a program that uses it.
    #[track_caller]
    fn generate(&self, document: &Value, program: &str) {
        let component = json!({"type": "custom", "customComponent": "./component.js", "name": "client",
            "language": "typescript", "outPath": "client"});
        let config = json!({"openrpcDocument": "openrpc.json", "components": [component]});
        for (name, content) in [("openrpc.json", document), ("config.json", &config)] {
            fs::write(self.dir.path().join(name), content.to_string()).unwrap();
        }
        self.done(
            "node",
            &["node_modules/@open-rpc/generator/build/cli.js", "generate", "-c", "config.json"],
        );
        let source = Path::new("client/src").join("session.ts");
        fs::write(self.dir.path().join(source), program).unwrap();
        let tsc = "node_modules/typescript/bin/tsc";
        self.done("node", &[tsc, "-p", "client", "--skipLibCheck", "--outDir", "built"]);
    }
}

/// The document with something else in one place.
fn broken(document: &Value, place: &str, other: Value) -> Value {
    let mut broken = document.clone();
    *broken.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = other;
    broken
}

#[test]
fn it_is_valid_and_a_client_generated_from_it_makes_a_session() {
    let daemon = TestDaemon::start();
    let (document, node) = (discover(&daemon), Node::install());

    let [said, version, name, schema, code, example, value] = node.check([
        &document,
        &broken(&document, "/openrpc", json!("9.9.9")),
        &broken(&document, "/methods/3/name", json!(7)),
        &broken(&document, "/methods/7/params/0", json!({"name": "cmd"})),
        &broken(&document, "/components/errors/internal/code", json!("x")),
        &broken(&document, "/methods/3/examples/0/params/0/value", json!("")),
        &broken(&document, "/components/schemas/TtlSeconds/examples/0", json!(0)),
    ]);
    let (word, examples) = said.split_once(' ').unwrap_or_else(|| panic!("{said}"));
    assert_eq!(word, "valid", "{said}");
    assert!(examples.parse::<u32>().unwrap() > 100, "{said}");
    for (said, part) in [
        (version, "document.openrpc"),
        (name, "document.methods[3]"),
        (schema, "document.methods[7]"),
        (code, "document.components.errors['internal']"),
        (example, "example of sandbox.get:sessionId"),
        (value, "example of TtlSeconds"),
    ] {
        assert!(!said.starts_with("valid") && said.contains(part), "{part}: {said}");
    }

    let program = include_str!("../clients/openrpc/session.ts");
    node.generate(&document, program);
    let socket = daemon.socket.to_str().unwrap();
    let got = node.done("node", &["built/session.js", socket]);
    let got: Value = serde_json::from_str(&got).unwrap_or_else(|e| panic!("{e}: {got}"));
    let expected = json!({
        "status": "ok",
        "created": true,
        "size": 28,
        "exitCode": 3,
        "stdout": "from a generated client ✓\nhello\n",
        "data": "YSBnZQ==",
        "kind": "file",
        "mode": 0o600,
        "names": ["note"],
        "sessionId": "generated",
        "sandboxes": 1,
        "unpacked": 1,
        "blocks": true,
        "allowed": false,
        "cause": "denied",
        "rule": "rm",
        "socket": socket,
        "methods": method::NAMES.len(),
        "deleted": true,
        "unknown": "sandboxNotFound",
        "wrong": ["cmd", "sessionId", "sessionId", "cpuLimit", "encoding"],
    });
    assert_eq!(got, expected);
    assert_eq!(daemon.directories(), [""; 0]);
}
