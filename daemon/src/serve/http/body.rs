//! The body of a request that is taken whole.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, EXPECT};
use hyper::{Request, StatusCode};
use noxrunner_protocol::{ErrorKind, RpcError};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Answer, failed};

/// How long a client may go on sending what is not taken.
const LINGER: Duration = Duration::from_secs(2);

/// Takes the body of a request, of at most so many bytes.
pub(super) async fn take(
    request: Request<Incoming>,
    most: usize,
    patience: Duration,
) -> Result<Bytes, NotTaken> {
    let asks_first = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if body.size_hint().lower() > most as u64 {
        // Who asks first sends nothing of it, unless it is read from.
        if !asks_first {
            discard(&mut body).await;
        }
        return Err(too_large(most));
    }
    let mut taken = Vec::new();
    loop {
        let frame = match timeout(patience, body.frame()).await {
            Ok(None) => return Ok(taken.into()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                let why = "the body did not arrive whole";
                return Err(NotTaken::Broken(failed(StatusCode::BAD_REQUEST, why)));
            }
            Err(_) => {
                let waited = patience.as_secs_f64();
                let why = format!("nothing more of the body arrived for {waited} s");
                return Err(NotTaken::Broken(failed(StatusCode::REQUEST_TIMEOUT, &why)));
            }
        };
        if let Ok(data) = frame.into_data() {
            if taken.len() + data.len() > most {
                discard(&mut body).await;
                return Err(too_large(most));
            }
            taken.extend_from_slice(&data);
        }
    }
}

/// Reads on for a while what is not taken, so that a client that sends all before reading hears why.
pub(super) async fn discard(body: &mut Incoming) {
    let until = Instant::now() + LINGER;
    while let Ok(Some(Ok(_))) = timeout_at(until, body.frame()).await {}
}

fn too_large(most: usize) -> NotTaken {
    let error =
        RpcError::new(ErrorKind::PayloadTooLarge, format!("a body has at most {most} bytes"));
    NotTaken::TooLarge(error.hint("send less at a time"))
}

/// Why a body was not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// It is longer than may be.
    TooLarge(RpcError),
    /// It did not arrive.
    Broken(Answer),
}

/// Says what is wrong with a request that names none of these types for its body, if it does not.
pub(super) fn not_of_type<B>(request: &Request<B>, types: &[&str]) -> Option<Answer> {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let given = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if types.iter().any(|known| known.eq_ignore_ascii_case(given)) {
        return None;
    }
    let wanted = types.first().unwrap_or(&"");
    let why = format!("send the body with the header content-type: {wanted}");
    Some(failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why))
}
