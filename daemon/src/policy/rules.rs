//! Command names and the rules they match: pure.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// What the built-in policy blocks.
pub const DEFAULT_BLOCK: [&str; 26] = [
    "rm", "rmdir", "unlink", "shred", "del", "format", "mkfs*", "dd", "fdisk", "parted",
    "shutdown", "reboot", "halt", "poweroff", "init", "telinit", "killall", "sudo", "su", "doas",
    "pkexec", "chmod", "chown", "chgrp", "mount", "umount",
];

/// A command's name, or with `*` at its end every name that begins so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// As the policy spells it.
    spelled: String,
    /// The same in lower case, made once: every command is held against every rule.
    folded: String,
}

/// Why a rule is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It is the empty string.
    #[error("it is empty; remove it")]
    Empty,
    /// It has a slash, though rules are matched on base names.
    #[error("it has a slash; write the command's name alone, it matches in any directory")]
    Slash,
    /// It has a NUL byte, which no file name has.
    #[error("it has a NUL byte; no command's name has one")]
    Nul,
    /// It has a `*` before its end.
    #[error("it has a `*` before its end; only a `*` at the end stands for any rest")]
    Star,
}

impl Rule {
    /// Reads a rule as a policy spells it.
    ///
    /// # Errors
    /// If it is empty, or has a slash, a NUL, or a `*` anywhere but at its end.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        match text {
            "" => Err(RuleError::Empty),
            _ if text.contains('/') => Err(RuleError::Slash),
            _ if text.contains('\0') => Err(RuleError::Nul),
            _ if stem.contains('*') => Err(RuleError::Star),
            _ => Ok(Self { spelled: text.to_owned(), folded: text.to_lowercase() }),
        }
    }

    /// The first byte that its names have in lower case; `*` where they may have any.
    pub fn initial(&self) -> Option<u8> {
        self.folded.bytes().next()
    }

    /// Whether `name` is one of the rule's, letter by letter.
    pub fn matches(&self, name: &OsStr) -> bool {
        matches(&self.spelled, name.as_bytes())
    }

    /// Whether `name` is one of the rule's in any case: a file system may be
    /// deaf to case, and who types `RM` means the same thing.
    pub fn matches_any_case(&self, name: &FoldedName) -> bool {
        matches(&self.folded, name.0.as_bytes())
    }
}

/// A name without its case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldedName(String);

impl FoldedName {
    /// Folds a name. Bytes that are not UTF-8 fold to replacement characters, which no rule means.
    pub fn new(name: &OsStr) -> Self {
        Self(name.to_string_lossy().to_lowercase())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled)
    }
}

fn matches(rule: &str, name: &[u8]) -> bool {
    match rule.strip_suffix('*') {
        Some(stem) => name.starts_with(stem.as_bytes()),
        None => name == rule.as_bytes(),
    }
}

/// The last component of a path as typed, trailing slashes aside; `/` itself has an empty one.
pub fn base_name(path: &OsStr) -> &OsStr {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    OsStr::from_bytes(&bytes[start..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(name: impl AsRef<OsStr>) -> FoldedName {
        FoldedName::new(name.as_ref())
    }

    fn rule(text: &str) -> Rule {
        Rule::parse(text).unwrap()
    }

    #[test]
    fn the_default_list_is_made_of_rules() {
        for text in DEFAULT_BLOCK {
            Rule::parse(text).unwrap();
        }
    }

    #[test]
    fn what_is_no_name_is_no_rule() {
        for (text, want) in [
            ("", RuleError::Empty),
            ("/bin/rm", RuleError::Slash),
            ("rm/", RuleError::Slash),
            ("r\0m", RuleError::Nul),
            ("*rm", RuleError::Star),
            ("r*m", RuleError::Star),
            ("mkfs**", RuleError::Star),
        ] {
            assert_eq!(Rule::parse(text), Err(want), "{text:?}");
        }
        assert!(rule("*").matches(OsStr::new("anything")));
    }

    #[test]
    fn names_match_whole_and_stems_from_the_start() {
        for (text, name, exact, any_case) in [
            ("rm", "rm", true, true),
            ("rm", "RM", false, true),
            ("rm", "rmdir", false, false),
            ("rm", "arm", false, false),
            ("mkfs*", "mkfs", true, true),
            ("mkfs*", "mkfs.ext4", true, true),
            ("mkfs*", "MkFs.Ext4", false, true),
            ("mkfs*", "mkf", false, false),
            ("Makefile", "makefile", false, true),
        ] {
            assert_eq!(rule(text).matches(OsStr::new(name)), exact, "{text} {name}");
            assert_eq!(rule(text).matches_any_case(&folded(name)), any_case, "{text} {name}");
        }
        assert!(!rule("rm").matches_any_case(&folded(OsStr::from_bytes(b"rm\xff"))));
    }

    #[test]
    fn base_names() {
        for (path, want) in [
            ("rm", "rm"),
            ("/bin/rm", "rm"),
            ("../../bin/RM", "RM"),
            ("/bin/rm//", "rm"),
            ("./rm", "rm"),
            ("/", ""),
            ("", ""),
            ("..", ".."),
        ] {
            assert_eq!(base_name(OsStr::new(path)), OsStr::new(want), "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_blocked_name_matches_in_any_case_and_any_path(
            name in prop::sample::select(DEFAULT_BLOCK.to_vec()),
            upper in prop::collection::vec(any::<bool>(), 16),
            prefix in "(/|[a-z.]{0,6}/){0,6}",
            suffix in "[a-z0-9.]{0,4}",
        ) {
            let stem = name.strip_suffix('*');
            let typed = stem.map_or(name.to_owned(), |stem| format!("{stem}{suffix}"));
            let typed: String = typed.chars().zip(upper.iter().cycle())
                .map(|(c, up)| if *up { c.to_ascii_uppercase() } else { c }).collect();
            let path = format!("{prefix}{typed}");
            prop_assert!(rule(name).matches_any_case(&folded(base_name(OsStr::new(&path)))), "{}", path);
        }
    }
}
