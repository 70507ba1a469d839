//! What clients sent in earlier days still parses: `golden/earlier/` has a file for each day
//! that methods or params came, and nothing in it is ever changed. Who adds a method or a param
//! adds lines that have it, in a file of the new day.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use noxrunner_protocol::Method;
use noxrunner_protocol::limits::MAX_BATCH_ENTRIES;
use noxrunner_protocol::message::{Call, Entry, Incoming, parse};
use noxrunner_protocol::method::{NAMES, Visitor, visit_all};
use serde::de::{Deserialize, Deserializer, Error, Visitor as ValueVisitor};
use serde_json::{Map, Value};

/// Every line by where it is.
fn lines() -> BTreeMap<String, String> {
    // Asked for at run time: the tests may have been built elsewhere.
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let mut lines = BTreeMap::new();
    for file in fs::read_dir(here.join("golden/earlier")).unwrap() {
        let path = file.unwrap().path();
        assert!(path.extension().is_some_and(|end| end == "jsonl"), "{path:?} is not read");
        let name = path.file_name().unwrap().display();
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            lines.insert(format!("{name}:{}", n + 1), line.to_owned());
        }
    }
    assert!(lines.len() >= 37, "some are gone: {}", lines.len());
    lines
}

fn calls<'a>(place: &str, line: &'a str) -> Vec<Call<'a>> {
    let entries = match parse(line.as_bytes(), MAX_BATCH_ENTRIES) {
        Ok(Incoming::Single(entry)) => vec![entry],
        Ok(Incoming::Batch(entries)) => entries,
        Err(error) => panic!("{place}: {error}"),
    };
    let call = |entry| match entry {
        Entry::Call(call) => call,
        other @ (Entry::Notification | Entry::Bad(..)) => panic!("{place}: {other:?}"),
    };
    entries.into_iter().map(call).collect()
}

fn params(call: &Call<'_>) -> Map<String, Value> {
    serde_json::from_str(call.params.map_or("{}", |params| params.get())).unwrap()
}

/// Takes the params of a call as those of its method.
struct Take<'a> {
    place: &'a str,
    call: &'a Call<'a>,
    taken: bool,
}

impl Visitor for Take<'_> {
    fn visit<M: Method>(&mut self) {
        if self.call.method != M::NAME {
            return;
        }
        let (place, sent) = (self.place, params(self.call));
        let taken = serde_json::from_value::<M::Params>(sent.clone().into());
        let taken = taken.unwrap_or_else(|error| panic!("{place}: {error}"));
        let understood = serde_json::to_value(&taken).unwrap();
        for (param, value) in sent {
            // Numbers may be written in another way.
            let same = match (&value, &understood[&param]) {
                (Value::Number(sent), Value::Number(taken)) => sent.as_f64() == taken.as_f64(),
                (sent, taken) => sent == taken,
            };
            assert!(same, "{place}: {param} is taken for {}", understood[&param]);
        }
        self.taken = true;
    }
}

#[test]
fn what_was_sent_in_earlier_days_still_parses() {
    for (place, line) in lines() {
        for call in calls(&place, &line) {
            let mut take = Take { place: &place, call: &call, taken: false };
            visit_all(&mut take);
            assert!(take.taken, "{place}: there is no {} any more", call.method);
        }
    }
}

#[test]
fn every_method_has_a_line() {
    let mut sent = BTreeSet::new();
    for (place, line) in lines() {
        sent.extend(calls(&place, &line).iter().map(|call| call.method.to_string()));
    }
    let known: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(sent, known, "add a line to golden/earlier");
}

/// Knows which fields a struct is read with.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: ValueVisitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("not a struct"))
    }

    fn deserialize_struct<V: ValueVisitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Error::custom("seen"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Known(BTreeMap<&'static str, BTreeSet<String>>);

impl Visitor for Known {
    fn visit<M: Method>(&mut self) {
        let mut fields: &[&str] = &["?"];
        let seen = M::Params::deserialize(Fields(&mut fields)).err().map(|why| why.to_string());
        assert_eq!(seen.as_deref(), Some("seen"), "{}", M::NAME);
        self.0.insert(M::NAME, fields.iter().map(|name| (*name).to_owned()).collect());
    }
}

#[test]
fn every_param_of_every_method_has_a_line() {
    let mut known = Known(BTreeMap::new());
    visit_all(&mut known);
    for (place, line) in lines() {
        for call in calls(&place, &line) {
            let left = known.0.get_mut(call.method.as_ref()).unwrap();
            left.retain(|param| !params(&call).contains_key(param));
        }
    }
    known.0.retain(|_, left| !left.is_empty());
    assert_eq!(known.0, BTreeMap::new(), "add a line to golden/earlier");
}
