//! Where a backend is, as a user writes it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ::http::Uri;

/// The URL that the paths of the API are added to: `http` or `https`, a host, and perhaps a
/// port and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Without a slash at the end.
    text: String,
    host: String,
    port: u16,
    tls: bool,
}

/// The text is no such URL. It is not repeated: it may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It has another scheme, or none.
    #[error("a backend's URL begins with http:// or https://, as in http://127.0.0.1:8080")]
    Scheme,
    /// It has a user or a password.
    #[error(
        "a backend's URL has no user and no password in it: put a token in a file, for --token-file"
    )]
    Userinfo,
    /// It has a query or a fragment.
    #[error("a backend's URL has no `?` and no `#` in it, only a host, a port and a path")]
    Query,
    /// Its host is missing, or none.
    #[error(
        "a backend's URL names a host: a name of letters, digits, `-`, `.` and `_`, or an address ([::1] for IPv6)"
    )]
    Host,
    /// Its port is none.
    #[error("the port in a backend's URL is a number from 1 to 65535")]
    Port,
    /// Its path is none.
    #[error("the path in a backend's URL has characters that must be percent-encoded")]
    Path,
}

impl BaseUrl {
    /// The host: a name or an address, of IPv6 without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: the scheme's where none is named.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether what is sent there is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether it is this machine by itself, so that nothing goes over a network: `localhost`
    /// or an address of the loopback. A name that leads there may lead elsewhere tomorrow.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The URL of a path of the API, which begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(BaseUrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BaseUrlError::Userinfo);
        }
        if path.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        let (host, port) = split_port(authority)?;
        let port: Option<u16> = match port {
            None => None,
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                Some(port.parse().ok().filter(|n| *n > 0).ok_or(BaseUrlError::Port)?)
            }
            Some(_) => return Err(BaseUrlError::Port),
        };
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let colon = port.map(|port| format!(":{port}")).unwrap_or_default();
        let (scheme, usual) = if tls { ("https", 443) } else { ("http", 80) };
        let text = format!("{scheme}://{shown}{colon}{}", path.trim_end_matches('/'));
        text.parse::<Uri>().map_err(|_| BaseUrlError::Path)?;
        Ok(Self { text, host: host.to_owned(), port: port.unwrap_or(usual), tls })
    }
}

/// A host that is one, and what follows the colon.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), BaseUrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(BaseUrlError::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| BaseUrlError::Host)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(BaseUrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    // One that begins with `-` would be an option of whoever is asked for its address.
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let named = !host.is_empty() && !host.starts_with('-') && host.len() <= 253;
    if named && host.bytes().all(good) { Ok((host, port)) } else { Err(BaseUrlError::Host) }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BaseUrl, BaseUrlError> {
        text.parse()
    }

    #[test]
    fn urls_keep_their_prefix_and_lose_the_slash_at_the_end() {
        for (text, joined) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
            ("HTTP://h/", "http://h/v1"),
            ("https://gw.example/nox//", "https://gw.example/nox/v1"),
            ("https://gw.example:443/a%20b", "https://gw.example:443/a%20b/v1"),
            ("http://[::1]:80", "http://[::1]:80/v1"),
        ] {
            assert_eq!(parse(text).unwrap().join("/v1"), joined, "{text}");
        }
        let url = parse("http://[::1]").unwrap();
        assert_eq!((url.host(), url.port()), ("::1", 80));
        assert_eq!(parse("https://h:9").unwrap().port(), 9);
        assert_eq!(parse("https://h/x").unwrap().port(), 443);
    }

    #[test]
    fn anything_else_is_refused_without_repeating_it() {
        for (text, expected) in [
            ("", BaseUrlError::Scheme),
            ("127.0.0.1:8080", BaseUrlError::Scheme),
            ("ftp://h", BaseUrlError::Scheme),
            ("unix:///x", BaseUrlError::Scheme),
            ("http://user:secret@h", BaseUrlError::Userinfo),
            ("http://user@h/x", BaseUrlError::Userinfo),
            ("http://h?x", BaseUrlError::Query),
            ("http://h/#x", BaseUrlError::Query),
            ("http://", BaseUrlError::Host),
            ("http:///x", BaseUrlError::Host),
            ("http://-h", BaseUrlError::Host),
            ("http://a b", BaseUrlError::Host),
            ("http://ä", BaseUrlError::Host),
            ("http://[::1", BaseUrlError::Host),
            ("http://[::1]x", BaseUrlError::Host),
            ("http://[h]", BaseUrlError::Host),
            ("http://h:", BaseUrlError::Port),
            ("http://h:0", BaseUrlError::Port),
            ("http://h:+1", BaseUrlError::Port),
            ("http://h:65536", BaseUrlError::Port),
            ("http://h/a b", BaseUrlError::Path),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
        assert!(!parse("http://u:secret@h").unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn only_this_machine_itself_is_loopback() {
        for (text, expected) in [
            ("http://localhost", true),
            ("http://LocalHost:1", true),
            ("http://127.8.9.1", true),
            ("http://[::1]", true),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
            ("http://127.1", false),
            ("http://[::ffff:127.0.0.1]", false),
        ] {
            assert_eq!(parse(text).unwrap().is_loopback(), expected, "{text}");
        }
    }
}
