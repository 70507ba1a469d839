//! Ten thousand lines of which nobody knows what is in them.

use std::collections::HashSet;

use noxrunner_tests::TestDaemon;
use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::wire::{refusal, request};
use serde_json::{Value, json};

const LINES: usize = 10_000;

/// How many are on their way at once.
const CHUNK: usize = 100;

/// A xorshift generator (Marsaglia, 2003): the same lines every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// Requests that harm nobody, however they are read.
fn seeds() -> Vec<Vec<u8>> {
    let asked = [
        ("health", json!({})),
        ("sandbox.get", json!({"sessionId": "s"})),
        ("sandbox.touch", json!({"sessionId": "ü\u{1f600}"})),
        ("sandbox.list", json!({})),
        ("policy.check", json!({"cmd": ["rm", "-rf", "/"]})),
        ("file.read", json!({"sessionId": "s", "path": "../../x", "offset": 5, "length": 1e3})),
        ("file.stat", json!({"sessionId": "s", "pathBase64": "/w=="})),
        ("file.upload", json!({"sessionId": "s", "archive": "H4sIAAAAAAAA", "dest": "/workspace"})),
    ];
    let mut seeds: Vec<Value> =
        (1..).zip(asked).map(|(id, (method, params))| request(id, method, params)).collect();
    seeds.push(Value::Array(seeds.clone()));
    seeds.push(json!({"jsonrpc": "2.0", "method": "health"}));
    seeds.iter().map(|seed| seed.to_string().into_bytes()).collect()
}

fn line(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const MARKS: &[u8] = br#"{}[]",:\u-0e.9 "#;
    if random.below(10) == 0 {
        return (0..random.below(200)).map(|_| random.byte()).collect();
    }
    let mut line = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(line.len().max(1)).min(line.len());
        match random.below(6) {
            0 => line.insert(at, random.byte()),
            1 => line.truncate(at),
            2 => line.insert(at, MARKS[random.below(MARKS.len())]),
            3 if at < line.len() => drop(line.remove(at)),
            4 if at < line.len() => line[at] = random.byte(),
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                line.splice(at..at, other[from..].iter().copied());
            }
        }
    }
    line
}

/// Whether a line asks for an answer, said without the code that is tested.
fn wants_an_answer(line: &[u8]) -> bool {
    let is_notification = |value: &Value| {
        value.get("id").is_none() && value["jsonrpc"] == "2.0" && value["method"].is_string()
    };
    if line.trim_ascii().is_empty() {
        return false;
    }
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Array(entries)) => entries.is_empty() || !entries.iter().all(is_notification),
        Ok(value) => !is_notification(&value),
        Err(_) => true,
    }
}

#[test]
fn each_gets_an_answer_and_nothing_happens() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let other = Meanwhile::of(&daemon);
    let (mut random, seeds) = (Random(0x9e37_79b9_7f4a_7c15), seeds());
    let mut wire = daemon.wire();
    let (mut kinds, mut results) = (HashSet::new(), 0);
    for chunk in 0..LINES / CHUNK {
        let lines: Vec<Vec<u8>> = (0..CHUNK)
            .map(|_| line(&mut random, &seeds))
            .map(|mut line| {
                line.retain(|byte| *byte != b'\n');
                line
            })
            .collect();
        let expected = lines.iter().filter(|line| wants_an_answer(line)).count();
        wire.send([lines.join(&b'\n'), b"\n".to_vec()].concat());
        for n in 0..expected {
            let answer = wire.receive();
            for answer in answer.as_array().unwrap_or(&vec![answer.clone()]) {
                if answer.get("result").is_some() {
                    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
                    results += 1;
                } else {
                    kinds.insert(refusal(answer).0);
                }
            }
            assert!(n < CHUNK, "chunk {chunk}");
        }
        // Nothing more than that comes.
        let id = u64::MAX - chunk as u64;
        assert_eq!(wire.call(id, "health", json!({}))["result"]["status"], "ok");
    }
    other.noticed_nothing();
    for kind in
        ["parseError", "invalidRequest", "methodNotFound", "invalidArgument", "sandboxNotFound"]
    {
        assert!(kinds.contains(kind), "no {kind}: {kinds:?}");
    }
    assert!(results > 100, "hardly any line is a request: {results}");
    assert_eq!(daemon.directories().len(), 1);
}
