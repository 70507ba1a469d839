//! Where members go, by their names alone.

use crate::{MAX_DEPTH, StageError};

/// Longest name of one entry, in bytes (`NAME_MAX`, limits.h).
const NAME_MAX: usize = 255;

/// Where a member goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is the destination itself.
    Destination,
    /// Its name leads out and has no last part to put it by.
    Nowhere,
    /// Beneath the destination.
    Beneath {
        /// The names on the way, one at least; each is one of an entry.
        path: Vec<Vec<u8>>,
        /// Whether it led out and was put by its last name instead.
        rerooted: bool,
    },
}

/// The parts of a name that say something.
fn parts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Where a member of this name goes. `is_directory` says what it is: a tree may be
/// [`MAX_DEPTH`] directories deep, with files in the last.
pub(crate) fn place(name: &[u8], is_directory: bool) -> Result<Place, StageError> {
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    if name.contains(&0) {
        return Err(StageError::Damaged(format!("the name {:?} has a NUL in it", shown(name))));
    }
    let rerooted = name.starts_with(b"/") || parts(name).any(|part| part == b"..");
    let path: Vec<Vec<u8>> = if rerooted {
        match parts(name).last() {
            None | Some(b"..") => return Ok(Place::Nowhere),
            Some(last) => vec![last.to_vec()],
        }
    } else {
        parts(name).map(<[u8]>::to_vec).collect()
    };
    if path.is_empty() {
        return Ok(Place::Destination);
    }
    if let Some(long) = path.iter().find(|part| part.len() > NAME_MAX) {
        let what = format!("the name {:?} is longer than {NAME_MAX} bytes", shown(long));
        return Err(StageError::Damaged(what));
    }
    let directories = if is_directory { path.len() } else { path.len() - 1 };
    if directories > MAX_DEPTH {
        let first = path.first().map(|part| shown(part)).unwrap_or_default();
        let what = format!("in {first:?} it is more than {MAX_DEPTH} directories deep");
        return Err(StageError::Damaged(what));
    }
    Ok(Place::Beneath { path, rerooted })
}

/// Whether a link's target stays beneath the directory that paths are relative to: not
/// absolute, with `..` only at its beginning and no more of them than `dir` has components.
///
/// After another component `..` is refused, because that component may be a link, and `..`
/// then is the parent of wherever it leads (path_resolution(7)).
pub fn stays_beneath(dir: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return false;
    }
    if dir.starts_with(b"/") || parts(dir).any(|part| part == b"..") {
        return false;
    }
    let up = parts(target).take_while(|part| *part == b"..").count();
    up <= parts(dir).count() && parts(target).skip(up).all(|part| part != b"..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn beneath(path: &[&str], rerooted: bool) -> Place {
        let path = path.iter().map(|part| part.as_bytes().to_vec()).collect();
        Place::Beneath { path, rerooted }
    }

    #[test]
    fn names_that_lead_out_are_cut_to_their_last_part() {
        let at = |name: &str| place(name.as_bytes(), false).unwrap();
        assert_eq!(at("a/b"), beneath(&["a", "b"], false));
        assert_eq!(at(".//a/./b/"), beneath(&["a", "b"], false));
        assert_eq!(at("/etc/passwd"), beneath(&["passwd"], true));
        assert_eq!(at("a/../../b"), beneath(&["b"], true));
        assert_eq!(at("a/.."), Place::Nowhere);
        assert_eq!(at("../."), Place::Nowhere);
        assert_eq!(at("/"), Place::Nowhere);
        assert_eq!(at("./"), Place::Destination);
        assert_eq!(at("..."), beneath(&["..."], false));
    }

    #[test]
    fn names_that_no_tree_has_are_damage() {
        let refused =
            |name: &[u8], directory| matches!(place(name, directory), Err(StageError::Damaged(_)));
        assert!(refused(b"a\0b", false));
        assert!(!refused(&[b'x'; 255], false));
        assert!(refused(&[b'x'; 256], false));
        let deep = b"d/".repeat(MAX_DEPTH);
        assert!(!refused(&deep, true));
        assert!(!refused(&[&deep[..], b"f"].concat(), false));
        assert!(refused(&[&deep[..], b"f"].concat(), true));
        assert!(refused(&[&deep[..], b"d/f"].concat(), false));
    }

    #[test]
    fn targets_climb_no_higher_than_the_destination() {
        for (dir, target) in
            [("", "a"), ("", "a/b"), ("", "."), ("a", ".."), ("a/b", "../../c"), ("./a/", ".././b")]
        {
            assert!(stays_beneath(dir.as_bytes(), target.as_bytes()), "{dir} {target}");
        }
        for (dir, target) in [
            ("", ""),
            ("", ".."),
            ("", "/"),
            ("a", "/a"),
            ("a", "../.."),
            ("a", "./../.."),
            ("a/b", "c/.."),
            ("a/b", "../c/.."),
            ("..", "a"),
            ("/", "a"),
            ("", "a\0"),
        ] {
            assert!(!stays_beneath(dir.as_bytes(), target.as_bytes()), "{dir} {target}");
        }
    }

    fn names() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"..".to_vec()),
            Just(b".".to_vec()),
            Just(Vec::new()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.join(&b'/'))
    }

    proptest! {
        #[test]
        fn nothing_escapes(name in names(), is_directory: bool) {
            if let Ok(Place::Beneath { path, .. }) = place(&name, is_directory) {
                prop_assert!(!path.is_empty());
                for part in path {
                    prop_assert!(!part.is_empty() && part != b"." && part != b"..");
                    prop_assert!(!part.contains(&b'/') && !part.contains(&0));
                }
            }
        }

        /// Against a walk that has no links in it.
        #[test]
        fn no_target_leads_out(dir in names(), target in names()) {
            if stays_beneath(&dir, &target) {
                let mut depth = 0_i64;
                for part in dir.split(|b| *b == b'/').chain(target.split(|b| *b == b'/')) {
                    depth += match part { b"" | b"." => 0, b".." => -1, _ => 1 };
                    prop_assert!(depth >= 0);
                }
                prop_assert!(!target.starts_with(b"/"));
            }
        }
    }
}
