//! The request parser: any line is parsed or refused with an error that can be sent, and
//! params that any method takes are the same when they are sent on.
//!
//! Methods are not listed here: [`visit_all`] knows them all.

#![no_main]

use libfuzzer_sys::fuzz_target;
use noxrunner_protocol::message::{self, Call, Entry, Id, Incoming, parse, parse_response};
use noxrunner_protocol::method::{SandboxTouch, Visitor, visit_all};
use noxrunner_protocol::{ErrorKind, Method, RpcError, limits};
use serde_json::Value;

fuzz_target!(|line: &[u8]| {
    match parse(line, limits::MAX_BATCH_ENTRIES) {
        Ok(Incoming::Single(entry)) => check(entry),
        Ok(Incoming::Batch(entries)) => {
            assert!((1..=limits::MAX_BATCH_ENTRIES).contains(&entries.len()));
            entries.into_iter().for_each(check);
        }
        Err(error) => {
            use ErrorKind::{InvalidRequest, LimitExceeded, ParseError};
            assert!([ParseError, InvalidRequest, LimitExceeded].contains(&error.kind));
            assert_eq!(
                error.kind == ParseError,
                serde_json::from_slice::<&serde_json::value::RawValue>(line).is_err(),
            );
            survives(Id::Null, &error);
        }
    }
    // What a daemon answers is not to be trusted either.
    let _ = parse_response::<SandboxTouch>(line);
});

fn check(entry: Entry<'_>) {
    match entry {
        Entry::Call(call) => visit_all(&mut Params { call: &call }),
        Entry::Notification => {}
        Entry::Bad(id, error) => {
            assert_eq!(error.kind, ErrorKind::InvalidRequest);
            survives(id, &error);
        }
    }
}

/// An error is readable in a terminal, and the other side reads what this side says.
fn survives(id: Id, error: &RpcError) {
    let shown = error.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    let text = message::response::<()>(&id, Err(error)).unwrap();
    let (read_id, read) = parse_response::<SandboxTouch>(text.as_bytes()).unwrap();
    assert_eq!((read_id, read.unwrap_err()), (id, error.clone()));
}

/// The call's params, taken as those of each method in turn, whichever it names.
struct Params<'a> {
    call: &'a Call<'a>,
}

impl Visitor for Params<'_> {
    fn visit<M: Method>(&mut self) {
        let sent = self.call.params.map_or("{}", |params| params.get());
        let Ok(params) = serde_json::from_str::<M::Params>(sent) else { return };
        let line = message::request::<M>(1, &params).unwrap();
        assert!(!line.contains('\n'));
        let Ok(Incoming::Single(Entry::Call(again))) =
            parse(line.as_bytes(), limits::MAX_BATCH_ENTRIES)
        else {
            panic!("{line} is no request any more");
        };
        assert_eq!((&again.id, again.method.as_ref()), (&Id::Number(1), M::NAME));
        let text = again.params.expect("params were written").get();
        let params: M::Params = serde_json::from_str(text).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&params).unwrap(), value, "{}", M::NAME);
    }
}
