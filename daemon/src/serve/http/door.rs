//! Which requests are answered at all: not those of web pages, and on TCP only those that are
//! meant for this daemon and bring its token, where it asks for one.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};

use super::answer::{Answer, failed};
use crate::serve::tcp::Rules;

/// What a connection came through.
#[derive(Debug, Clone)]
pub enum Door {
    /// The daemon's own socket: the kernel has said who is there.
    Socket,
    /// TCP.
    Tcp(Arc<Rules>),
}

/// Says why a request is not answered, if it is not.
pub(super) fn refuse<B>(request: &Request<B>, door: &Door) -> Option<Answer> {
    let headers = request.headers();
    // No page has this daemon as its origin, so any origin is a foreign one.
    if headers.contains_key(ORIGIN) {
        return Some(failed(StatusCode::FORBIDDEN, "requests of web pages are refused"));
    }
    let Door::Tcp(rules) = door else { return None };
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Some(failed(StatusCode::BAD_REQUEST, "send one header host"));
    };
    let named = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    let host = host.to_str().unwrap_or_default();
    if !is_own(host, &rules.hosts) || named.is_some_and(|named| !is_own(named, &rules.hosts)) {
        // A page whose name its owner has made to lead here (DNS rebinding) says so with this header.
        let why = "the header host names another machine: use an address, localhost, or a name \
                   that the daemon was given with --http-host";
        return Some(failed(StatusCode::FORBIDDEN, why));
    }
    let given = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if !rules.wants_token() || given.is_some_and(|given| rules.is_token(given)) {
        return None;
    }
    let why = "send the daemon's token: authorization: Bearer TOKEN";
    let mut answer = failed(StatusCode::UNAUTHORIZED, why);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(answer)
}

/// The token of a header (RFC 6750, section 2.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Whether an authority is an address, this machine's own name for itself, or one of these names.
fn is_own(authority: &str, names: &[String]) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => (host, port),
            None => return false,
        },
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let has_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    has_port
        && (host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || names.iter().any(|name| name.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_given_names_are_this_machine() {
        let names = ["Box.lan".to_owned()];
        for own in
            ["127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]", "LOCALHOST:1", "box.LAN", "10.0.0.7"]
        {
            assert!(is_own(own, &names), "{own}");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:x",
            "localhost:99999",
            "[::1",
            "[::1]x",
            "user@localhost",
            "::1:80:80 ",
        ] {
            assert!(!is_own(foreign, &names), "{foreign}");
        }
    }

    #[test]
    fn a_token_follows_its_scheme() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
