//! The HTTP API: where it is and what lets one in, its paths, its bodies and its errors.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

mod base;
mod body;
mod token;

pub use base::{BaseUrl, BaseUrlError};
pub use body::{CreateBody, Created, ExecBody, Executed, Uploaded};
pub use token::{PlainToken, Token, TokenError};

use crate::error::{ErrorKind, RpcError};
use crate::ids::SessionId;

/// The path to `GET` for whether the backend is well.
pub const HEALTH: &str = "/healthz";

/// What bodies that are JSON have as their content type.
pub const JSON: &str = "application/json";

/// Where the paths of sandboxes begin.
pub const SANDBOXES: &str = "/v1/sandboxes/";

/// What a request that begins or ends a transfer has as its content type.
pub const TAR: &str = "application/x-tar";

/// How a daemon's warning begins that commands run on its machine. To whoever is elsewhere it says
/// nothing.
pub const LOCAL_MODE: &str = "local mode: ";

/// The header that says, with `true`, that a path was outside and replaced by the workspace.
pub const REDIRECTED: &str = "x-noxrunner-redirected";

/// What RFC 3986 calls unreserved stays as it is.
const KEPT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A path's segment, so a slash is no separator in it.
const SEGMENT: &AsciiSet = &KEPT.add(b'/');

/// How a download is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// A tar archive compressed by gzip, which every client of this API reads.
    #[default]
    TarGz,
    /// A tar archive as it is: faster where no network lies between.
    Tar,
}

impl ArchiveFormat {
    /// Its name in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::Tar => "tar",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::TarGz, Self::Tar].into_iter().find(|format| format.name() == name)
    }
}

/// The path of a sandbox: to `PUT` it, to `DELETE` it.
pub fn sandbox(id: &SessionId) -> String {
    // A segment of only dots would be taken for a step up by anything between.
    let id = match id.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        id => utf8_percent_encode(id, SEGMENT).to_string(),
    };
    format!("{SANDBOXES}{id}")
}

/// The path to `POST` to, so that a sandbox's time to live starts anew.
pub fn touch(id: &SessionId) -> String {
    sandbox(id) + "/touch"
}

/// The path to `POST` a command to.
pub fn exec(id: &SessionId) -> String {
    sandbox(id) + "/exec"
}

/// The path and query to `POST` an archive to.
pub fn upload(id: &SessionId, dest: &[u8]) -> String {
    format!("{}/files/upload?dest={}", sandbox(id), query(dest))
}

/// The path and query to `GET` an archive from.
pub fn download(id: &SessionId, src: &[u8], format: ArchiveFormat) -> String {
    let path = format!("{}/files/download?src={}", sandbox(id), query(src));
    // Other backends know only the one.
    if format == ArchiveFormat::default() {
        path
    } else {
        format!("{path}&format={}", format.name())
    }
}

/// A path's bytes in a query, UTF-8 or not.
fn query(path: &[u8]) -> String {
    percent_encoding::percent_encode(path, KEPT).to_string()
}

/// The body of every HTTP answer that is an error.
///
#[doc = concat!("```json\n", include_str!("../golden/http_error.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpError {
    /// What went wrong and what to do about it.
    pub error: String,
    /// The stable name of its kind; other backends have none.
    #[serde(default, deserialize_with = "body::known", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// What to do about it.
    #[serde(default, deserialize_with = "body::known", skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&RpcError> for HttpError {
    fn from(error: &RpcError) -> Self {
        Self { error: error.to_string(), kind: Some(error.kind), hint: error.hint.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_paths_survive_the_way_into_a_path() {
        for (id, encoded) in [
            ("a/b", "a%2Fb"),
            ("ä?#%", "%C3%A4%3F%23%25"),
            ("..", "%2E%2E"),
            ("a-b_c.d~", "a-b_c.d~"),
        ] {
            let path = upload(&id.parse().unwrap(), b"/workspace/\xff &=");
            assert_eq!(
                path,
                format!("/v1/sandboxes/{encoded}/files/upload?dest=/workspace/%FF%20%26%3D")
            );
        }
        let path = download(&"s".parse().unwrap(), b".", ArchiveFormat::Tar);
        assert_eq!(path, "/v1/sandboxes/s/files/download?src=.&format=tar");
        let path = download(&"s".parse().unwrap(), b".", ArchiveFormat::TarGz);
        assert_eq!(path, "/v1/sandboxes/s/files/download?src=.");
        assert_eq!(ArchiveFormat::from_name("tar.gz"), Some(ArchiveFormat::TarGz));
        assert_eq!(ArchiveFormat::from_name("zip"), None);
    }
}
