//! What each stream can show. Pure: the environment is an argument.

use std::ffi::OsString;

/// How text for a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Whether a person looks at it, so that names must not drive the terminal.
    pub(crate) terminal: bool,
    /// Whether lines may have colours.
    pub(crate) colour: bool,
}

impl Stream {
    /// Decides by the stream's own terminal, `NO_COLOR` (first, see no-color.org) and
    /// `CLICOLOR_FORCE` (see bixense.com/clicolors).
    pub(crate) fn new(terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| env(name).is_some_and(|value| !value.is_empty());
        let forced = set("CLICOLOR_FORCE") && env("CLICOLOR_FORCE").is_none_or(|v| v != "0");
        let able = terminal && env("TERM").is_none_or(|term| term != "dumb");
        Self { terminal, colour: !set("NO_COLOR") && (forced || able) }
    }

    /// Text from elsewhere, such as a name: as it is, but on a terminal escaped.
    pub(crate) fn show(self, text: &str) -> String {
        if self.terminal { escape(text) } else { text.to_owned() }
    }
}

/// Makes harmless what could move the cursor, change the terminal or reorder
/// the line: control characters, line separators and directional formatting
/// are written as Rust escapes.
pub(crate) fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{061c}' => {
                shown.extend(c.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colour(terminal: bool, vars: &[(&str, &str)]) -> bool {
        let env = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| v.into());
        Stream::new(terminal, env).colour
    }

    #[test]
    fn colour_is_for_terminals_unless_the_user_says_otherwise() {
        assert!(colour(true, &[]));
        assert!(!colour(false, &[]));
        assert!(!colour(true, &[("NO_COLOR", "1")]));
        assert!(colour(true, &[("NO_COLOR", "")]));
        assert!(colour(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!colour(false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!colour(false, &[("CLICOLOR_FORCE", "")]));
        assert!(!colour(true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!colour(true, &[("TERM", "dumb")]));
        assert!(colour(true, &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")]));
    }

    #[test]
    fn names_cannot_drive_a_terminal() {
        assert_eq!(escape("ö 日本 a\\b"), "ö 日本 a\\b");
        assert_eq!(escape("a\x1b[31mb\r\n\t\0"), r"a\u{1b}[31mb\r\n\t\u{0}");
        assert_eq!(escape("\u{9b}31m"), r"\u{9b}31m");
        assert_eq!(escape("exe\u{202e}txt\u{2028}"), r"exe\u{202e}txt\u{2028}");
        let piped = Stream { terminal: false, colour: false };
        assert_eq!(piped.show("a\x1bb"), "a\x1bb");
    }
}
