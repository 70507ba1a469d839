//! The archive reader: whatever an archive says, nothing outside of where it is unpacked is
//! touched, no bound is passed, and what was staged can be moved into place.

#![no_main]

mod made;
mod outside;

use std::fs::File;
use std::os::fd::AsFd;

use libfuzzer_sys::fuzz_target;
use noxrunner_archive::{Limits, MergeError, Rules, StageError, merge, stage, stays_beneath};
use outside::Outside;

/// Small, with all parts within reach: headers are 512 bytes each.
const LIMITS: Limits = Limits { bytes: 64 * 1024, members: 48, keep_free: 0 };

fuzz_target!(|input: &[u8]| {
    let outside = Outside::new();
    let archive = made::archive(input, outside.path());
    let (staging, dest) = (outside.staging(), outside.destination());
    let open = |path| File::open(path).expect("it was just made");
    let rules = Rules { limits: LIMITS, owner: None, link_stays: &stays_beneath };

    let outcome = stage(&mut archive.as_slice(), open(&staging).as_fd(), &rules);
    outside.is_untouched();
    let there = outside::survey(&staging);
    assert!(there.stored <= LIMITS.bytes, "{} bytes", there.stored);
    assert!(there.files_and_links <= LIMITS.members);
    match outcome {
        Ok(report) => {
            assert!(report.bytes <= LIMITS.bytes);
            assert!(report.written + report.skipped_links <= LIMITS.members);
            // Later members may have replaced some.
            assert!(there.files_and_links <= report.written);
            match merge(open(&staging).as_fd(), open(&dest).as_fd()) {
                Ok(()) => assert!(outside::is_empty(&staging), "not all of it was moved"),
                Err(MergeError::InTheWay { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            outside.is_untouched();
        }
        Err(StageError::Input(error)) => panic!("a slice does not fail: {error}"),
        // A file may be longer than the file system's files can be, and nothing else is the kernel's to refuse.
        Err(error @ StageError::Os { errno, .. }) => assert_eq!(errno as i32, 27, "{error}"),
        Err(error) => {
            let shown = error.to_string();
            assert!(!made::is_plain(input) || !shown.contains("gzip"), "taken for gzip: {shown}");
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }
});
