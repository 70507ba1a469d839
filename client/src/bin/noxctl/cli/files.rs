//! What can be typed of the verbs that copy files.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use noxrunner_protocol::SessionId;

use super::usage;
use crate::error::CliError;

/// The workspace of a sandbox, as its commands name it.
const WORKSPACE: &str = "/workspace";

#[derive(Debug, Args)]
pub(crate) struct UploadArgs {
    /// The sandbox's name
    pub(crate) session_id: SessionId,
    /// The files; a link stands for the file it leads to
    #[arg(required_unless_present = "dir", conflicts_with = "dir")]
    pub(crate) files: Vec<PathBuf>,
    /// Upload everything in this directory instead
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// The directory in the sandbox, made if it is missing
    #[arg(long, value_name = "PATH", default_value = WORKSPACE)]
    pub(crate) dest: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DownloadArgs {
    /// The sandbox's name
    pub(crate) session_id: SessionId,
    /// The directory or file in the sandbox
    #[arg(long, value_name = "PATH", default_value = WORKSPACE)]
    pub(crate) src: PathBuf,
    /// Write the archive (tar.gz) to this file, `-` for standard output
    #[arg(long, short = 'o', value_name = "FILE", conflicts_with = "extract")]
    pub(crate) output: Option<PathBuf>,
    /// Unpack into this directory, made if it is missing [default: .]
    #[arg(long, value_name = "DIR")]
    pub(crate) extract: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// What to copy: a path here (with a `:` in it: ./a:b), SESSION_ID:PATH, or `-` for a tar
    /// archive on standard input; of DIR/. what is in DIR
    #[arg(value_name = "SRC", value_parser = OsStringValueParser::new().try_map(place))]
    pub(crate) src: Place,
    /// Where to: a new name, or a directory that exists; `-` for a tar archive on standard output
    #[arg(value_name = "DST", value_parser = OsStringValueParser::new().try_map(place))]
    pub(crate) dst: Place,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file or directory of this machine.
    Local(PathBuf),
    /// One of a sandbox.
    Remote {
        /// The sandbox.
        session_id: SessionId,
        /// The path in it, with no NUL.
        path: Vec<u8>,
    },
    /// Standard input or output.
    Stream,
}

/// Which way a copy goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction<'a> {
    /// Into a sandbox; from standard input where there is no path.
    In { src: Option<&'a PathBuf>, session_id: &'a SessionId, path: &'a [u8] },
    /// Out of a sandbox; to standard output where there is no path.
    Out { session_id: &'a SessionId, path: &'a [u8], dst: Option<&'a PathBuf> },
}

impl CpArgs {
    /// Which way it goes.
    pub(crate) fn direction(&self) -> Result<Direction<'_>, CliError> {
        let (src, dst) = (&self.src, &self.dst);
        match (src, dst) {
            (Place::Local(src), Place::Remote { session_id, path }) => {
                Ok(Direction::In { src: Some(src), session_id, path })
            }
            (Place::Stream, Place::Remote { session_id, path }) => {
                Ok(Direction::In { src: None, session_id, path })
            }
            (Place::Remote { session_id, path }, Place::Local(dst)) => {
                Ok(Direction::Out { session_id, path, dst: Some(dst) })
            }
            (Place::Remote { session_id, path }, Place::Stream) => {
                Ok(Direction::Out { session_id, path, dst: None })
            }
            (Place::Remote { .. }, Place::Remote { .. }) => Err(usage(
                "cp",
                "both sides are in sandboxes: copy here first, and from here to the other",
            )),
            (Place::Local(_) | Place::Stream, Place::Local(_) | Place::Stream) => {
                Err(usage("cp", "neither side is in a sandbox: write one as SESSION_ID:PATH"))
            }
        }
    }
}

/// What a side of `cp` means, as docker's: what begins with `/` or `.` is local, so is what
/// has no `:`, and the first `:` ends the sandbox's name.
fn place(text: OsString) -> Result<Place, String> {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|b| *b == b':');
    match (bytes.first(), colon) {
        (None, _) => Err("a path is empty".to_owned()),
        (Some(b'-'), _) if bytes.len() == 1 => Ok(Place::Stream),
        (Some(b'/' | b'.'), _) | (_, None) => Ok(Place::Local(text.into())),
        (Some(_), Some(at)) => {
            let (id, path) = (bytes[..at].to_vec(), bytes[at + 1..].to_vec());
            let id = OsString::from_vec(id).into_string();
            let id = id.map_err(|id| format!("{}: not UTF-8", id.display()))?;
            let session_id = id.parse().map_err(|e| format!("{id:?}: {e}"))?;
            Ok(Place::Remote { session_id, path })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Verb;
    use crate::cli::tests::{parse, refused};

    fn remote(id: &str, path: &str) -> Place {
        Place::Remote { session_id: id.parse().unwrap(), path: path.into() }
    }

    #[test]
    fn uploads_and_downloads_have_the_old_tools_flags() {
        let line = "noxctl upload s a b --dest sub";
        let Verb::Upload(args) = parse(line).unwrap().verb else { panic!() };
        assert_eq!(args.files, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!((args.dir, args.dest), (None, "sub".into()));
        let Verb::Upload(args) = parse("noxctl upload s --dir d").unwrap().verb else { panic!() };
        assert_eq!((args.dir, args.dest), (Some("d".into()), "/workspace".into()));
        let line = "noxctl download s --src x --output -";
        let Verb::Download(args) = parse(line).unwrap().verb else { panic!() };
        assert_eq!((args.src, args.output, args.extract), ("x".into(), Some("-".into()), None));
        let Verb::Download(args) = parse("noxctl download s").unwrap().verb else { panic!() };
        assert_eq!((args.src, args.output, args.extract), ("/workspace".into(), None, None));
    }

    #[test]
    fn a_side_of_a_copy_is_local_or_in_a_sandbox() {
        for (text, expected) in [
            ("a", Place::Local("a".into())),
            ("./a:b", Place::Local("./a:b".into())),
            ("/a:b", Place::Local("/a:b".into())),
            ("..", Place::Local("..".into())),
            ("-", Place::Stream),
            ("-a", Place::Local("-a".into())),
            ("s:/a", remote("s", "/a")),
            ("s:a:b", remote("s", "a:b")),
            ("s:", remote("s", "")),
            ("a/b:c", remote("a/b", "c")),
        ] {
            assert_eq!(place(text.into()).unwrap(), expected, "{text}");
        }
        let bytes = OsString::from_vec(b"s:\xff".to_vec());
        assert!(matches!(place(bytes), Ok(Place::Remote { path, .. }) if path == b"\xff"));
        for text in ["", ":a"] {
            assert!(place(text.into()).is_err(), "{text}");
        }
        assert!(place(OsString::from_vec(b"\xff:a".to_vec())).is_err());
    }

    #[test]
    fn exactly_one_side_of_a_copy_is_in_a_sandbox() {
        let direction = |line: &str| {
            let Verb::Cp(args) = parse(line).unwrap().verb else { panic!() };
            args.direction().map(|direction| format!("{direction:?}")).map_err(|e| e.status())
        };
        assert!(direction("noxctl cp a s:").unwrap().contains("In { src: Some"));
        assert!(direction("noxctl cp - s:").unwrap().contains("In { src: None"));
        assert!(direction("noxctl cp s: a").unwrap().contains("dst: Some"));
        assert!(direction("noxctl cp s: -").unwrap().contains("dst: None"));
        for line in ["cp a b", "cp - -", "cp a -", "cp - a", "cp s:a t:b"] {
            assert_eq!(direction(&format!("noxctl {line}")), Err(2), "{line}");
        }
    }

    #[test]
    fn usage_errors_say_what_is_wrong() {
        for (line, part) in [
            ("noxctl upload s", "FILES"),
            ("noxctl upload s f --dir d", "--dir"),
            ("noxctl download s --output f --extract d", "--extract"),
            ("noxctl cp a", "DST"),
            ("noxctl cp :a b", "at least one character"),
        ] {
            let message = refused(line);
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
