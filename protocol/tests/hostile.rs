//! Whatever arrives is read without a panic and answered with one of the errors that the page names.

use noxrunner_protocol::ErrorKind;
use noxrunner_protocol::limits::MAX_BATCH_ENTRIES;
use noxrunner_protocol::message::{Entry, Incoming, parse};
use noxrunner_protocol::quantity::Quantity;
use proptest::prelude::*;

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let entries = match parse(bytes, MAX_BATCH_ENTRIES) {
        Ok(Incoming::Single(entry)) => vec![entry],
        Ok(Incoming::Batch(entries)) => {
            prop_assert!((1..=64).contains(&entries.len()));
            entries
        }
        Err(error) => {
            use ErrorKind::{InvalidRequest, LimitExceeded, ParseError};
            prop_assert!([ParseError, InvalidRequest, LimitExceeded].contains(&error.kind));
            let json = serde_json::from_slice::<serde_json::Value>(bytes);
            prop_assert_eq!(error.kind == ParseError, json.is_err());
            return Ok(());
        }
    };
    for entry in entries {
        if let Entry::Bad(_, error) = entry {
            prop_assert_eq!(error.kind, ErrorKind::InvalidRequest);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn a_request_with_bytes_changed(
        changes in proptest::collection::vec((0_usize..70, any::<u8>()), 1..6),
    ) {
        let mut line = br#"[{"jsonrpc":"2.0","id":7,"method":"health","params":{"a":[1,"x"]}}]"#.to_vec();
        for (at, byte) in changes {
            let end = line.len() - 1;
            line[at.min(end)] = byte;
        }
        check(&line)?;
    }

    #[test]
    fn a_quantity_is_kept_as_it_was_written(text in "[0-9.]{0,22}(m|k|M|G|Ki|Mi|Gi|Ei|e[0-9]{1,2}|x)?") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert!(quantity.milli() > 0 && quantity.units() <= 1 << 63);
            prop_assert_eq!(quantity.to_string(), text);
        }
    }
}
