//! What is written, where. Standard output is for what was asked for, standard
//! error for what is said about it.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::CliError;
use crate::terminal::{Stream, escape};

const GREEN: &str = "\x1b[0;32m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[0;34m";
const RED: &str = "\x1b[0;31m";
const RESET: &str = "\x1b[0m";

/// The two streams and how the user wants them.
#[derive(Debug)]
pub(crate) struct Out {
    /// Whether results and errors are printed as JSON.
    pub(crate) json: bool,
    quiet: bool,
    stdout: Stream,
    stderr: Stream,
}

impl Out {
    /// The process's own streams; `NOXRUNNER_QUIET` makes them as quiet as `quiet`.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let env = |name: &str| std::env::var_os(name);
        let quiet = quiet || env("NOXRUNNER_QUIET").is_some_and(|v| !v.is_empty() && v != "0");
        let stdout = Stream::new(io::stdout().is_terminal(), env);
        Self { json, quiet, stdout, stderr: Stream::new(io::stderr().is_terminal(), env) }
    }

    /// Writes bytes to standard output.
    pub(crate) fn stdout(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(CliError::Stdout)
    }

    /// Writes bytes to standard error. There is nobody to tell where that fails.
    pub(crate) fn stderr(&self, bytes: &[u8]) {
        let _ = io::stderr().write_all(bytes);
    }

    /// A name as standard error can show it.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.stderr.show(name)
    }

    /// Prints a result: its JSON, or what `human` prints.
    pub(crate) fn result<T: Serialize>(
        &self,
        result: &T,
        human: impl FnOnce() -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        if !self.json {
            return human();
        }
        let line = serde_json::to_string(result).map_err(|e| CliError::Stdout(e.into()))?;
        self.stdout((line + "\n").as_bytes())
    }

    /// A success on standard output, where scripts look for it.
    pub(crate) fn success(&self, text: &str) -> Result<(), CliError> {
        self.stdout(line(self.stdout, GREEN, "✓", text).as_bytes())
    }

    /// A success that nobody parses.
    pub(crate) fn done(&self, text: &str) {
        self.note(GREEN, "✓", text);
    }

    /// Something a person may like to know.
    pub(crate) fn info(&self, text: &str) {
        if !self.json {
            self.note(BLUE, "ℹ", text);
        }
    }

    /// Whether somebody watches who wants to see how far something is.
    pub(crate) const fn shows_progress(&self) -> bool {
        self.stderr.terminal && !self.quiet && !self.json
    }

    /// Something a person should know.
    pub(crate) fn warn(&self, text: &str) {
        self.note(YELLOW, "⚠", text);
    }

    /// A warning that also who asked for quiet must see, because output is missing.
    pub(crate) fn warn_loss(&self, text: &str) {
        self.stderr(line(self.stderr, YELLOW, "⚠", text).as_bytes());
    }

    /// What went wrong, one line or more.
    pub(crate) fn error(&self, text: &str) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        self.stderr(line(self.stderr, RED, "✗", first).as_bytes());
        for more in lines {
            self.stderr(format!("  {}\n", escape(more)).as_bytes());
        }
    }

    /// Names and values on standard output, one pair a line. A name that
    /// repeats the one before is left out.
    pub(crate) fn pairs(&self, pairs: &[(&str, String)]) -> Result<(), CliError> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut last = "";
        let mut text = String::new();
        for (name, value) in pairs {
            let shown = if *name == last { "" } else { name };
            text += format!("{shown:width$}  {}", self.stdout.show(value)).trim_end();
            text.push('\n');
            last = name;
        }
        self.stdout(text.as_bytes())
    }

    /// A table on standard output, with the names of its columns.
    pub(crate) fn table<const N: usize>(
        &self,
        head: [&str; N],
        rows: &[[String; N]],
    ) -> Result<(), CliError> {
        self.stdout(table(self.stdout, head, rows).as_bytes())
    }

    /// Says what went wrong and gives the exit status for it.
    pub(crate) fn fail(&self, error: &CliError) -> u8 {
        if let CliError::Stdout(e) = error
            && e.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever reads has read enough.
            return 0;
        }
        if let CliError::Usage(e) = error {
            // Nobody is left to tell where this fails.
            let _ = e.print();
        } else if self.json {
            let line = serde_json::json!({ "error": error.to_rpc() });
            self.stderr(format!("{line}\n").as_bytes());
        } else {
            self.error(&error.to_string());
            if let Some(hint) = error.hint() {
                self.stderr(line(self.stderr, BLUE, "ℹ", &hint).as_bytes());
            }
        }
        error.status()
    }

    fn note(&self, colour: &str, sign: &str, text: &str) {
        if !self.quiet {
            self.stderr(line(self.stderr, colour, sign, text).as_bytes());
        }
    }
}

/// One line for people. Always escaped: one message stays one line in a log, too.
fn line(stream: Stream, colour: &str, sign: &str, text: &str) -> String {
    let text = escape(text);
    if stream.colour {
        format!("{colour}{sign} {text}{RESET}\n")
    } else {
        format!("{sign} {text}\n")
    }
}

fn table<const N: usize>(stream: Stream, head: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| stream.show(cell))).collect();
    let widths: [usize; N] = std::array::from_fn(|i| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([head[i].chars().count()]).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in std::iter::once(&head.map(str::to_owned)).chain(&rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The name of an enum's value as it travels.
pub(crate) fn wire_name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(e) => e.to_string(),
    }
}

/// A list in a line, `-` where it has nothing.
pub(crate) fn list(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

/// An amount of bytes for people, rounded down.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let scaled = (0..).zip(units).map(|(i, unit)| (n >> (10 * (i + 1)), unit));
    match scaled.take_while(|(n, _)| *n > 0).last() {
        Some((n, unit)) => format!("{n} {unit}"),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Stream = Stream { terminal: false, colour: false };
    const TERMINAL: Stream = Stream { terminal: true, colour: true };

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(line(PLAIN, RED, "✗", "a\nb"), "✗ a\\nb\n");
        assert_eq!(line(TERMINAL, YELLOW, "⚠", "a"), "\x1b[1;33m⚠ a\x1b[0m\n");
    }

    #[test]
    fn columns_are_as_wide_as_what_they_show() {
        let rows = [["ä\x07".to_owned(), "x".to_owned()], ["b".to_owned(), String::new()]];
        assert_eq!(table(PLAIN, ["N", "LONG"], &rows), "N   LONG\nä\x07  x\nb\n");
        assert_eq!(table(TERMINAL, ["N", "LONG"], &rows), "N       LONG\nä\\u{7}  x\nb\n");
    }

    #[test]
    fn bytes_are_rounded_down_to_a_unit() {
        for (n, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(n), shown);
        }
    }
}
