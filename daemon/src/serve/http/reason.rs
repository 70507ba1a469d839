//! A reason for requests that hyper cannot read. It answers those by itself, with a status and
//! nothing else, before anything of this daemon's is asked.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use noxrunner_protocol::http::HttpError;

/// A stream whose empty errors get a body.
///
/// All errors of the daemon's own have one, so an error without is always hyper's, and always
/// the last that is written.
pub(super) struct Reasoned<S> {
    stream: S,
    /// What is written in place of an error, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Reasoned<S> {
    /// Over this stream.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, instead: None }
    }
}

/// The whole answer for an error that is written as `head` and has no body.
fn explained(head: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(head).ok()?.strip_suffix("\r\n\r\n")?;
    let (line, headers) = text.split_once("\r\n")?;
    let status = line.strip_prefix("HTTP/1.1 ").filter(|rest| rest.starts_with(['4', '5']))?;
    if !headers.split("\r\n").any(|header| header == "content-length: 0") {
        return None;
    }
    let why = match status.get(..3)? {
        "414" => "the request's path is too long: a long path goes into an archive or a body",
        "431" => "the request's headers are too large or too many: send fewer",
        _ => {
            "this is not a request as HTTP/1.1 has them (RFC 9112): look at its first line, its \
             headers, and how it gives the length of its body"
        }
    };
    let error = HttpError { error: why.to_owned(), kind: None, hint: None };
    // None of the protocol's types fails to be written.
    let body = serde_json::to_string(&error).unwrap_or_default();
    let answer = format!(
        "{line}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    Some(answer.into_bytes())
}

impl<S: Write + Unpin> Write for Reasoned<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() {
            this.instead = explained(buf).map(|answer| (answer, 0));
        }
        let Some((answer, written)) = &mut this.instead else {
            return Pin::new(&mut this.stream).poll_write(cx, buf);
        };
        while let Some(rest) = answer.get(*written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => *written += n,
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) => self.poll_write(cx, only),
            _ => Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Read + Unpin> Read for Reasoned<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_without_a_body_is_explained() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        let answer = String::from_utf8(explained(bare).unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("too large"), "{answer}");
        for other in [
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n{}",
            "{\"HTTP/1.1 400\": \"content-length: 0\r\n\r\n",
        ] {
            assert_eq!(explained(other.as_bytes()), None, "{other}");
        }
    }
}
