//! A body in pieces, through a short queue: what is in memory of an archive that goes by.

use std::io;
use std::time::Duration;

use futures_util::stream::unfold;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A piece of a body.
pub(crate) enum Piece {
    /// Some of it.
    Data(Bytes),
    /// The word that it was all. Without it, what there was is cut off.
    End,
}

/// The next piece of an archive that a client sends.
///
/// # Errors
/// Why there will be none, in words.
pub(crate) async fn next(body: &mut Incoming, patience: Duration) -> Result<Piece, String> {
    loop {
        return match timeout(patience, body.frame()).await {
            Err(_) => {
                let waited = patience.as_secs_f64();
                Err(format!("nothing more of the archive arrived for {waited} s"))
            }
            Ok(None) => Ok(Piece::End),
            Ok(Some(Err(error))) => Err(format!("the archive did not arrive whole: {error}")),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Ok(Piece::Data(data)),
                Err(_trailers) => continue,
            },
        };
    }
}

/// What comes through a queue, as a body. One that is cut off ends with an error, so that nobody
/// takes it for whole.
pub(crate) fn body(receive: mpsc::Receiver<Piece>) -> BoxBody<Bytes, io::Error> {
    let pieces = unfold(Some(receive), |receive| async {
        let mut receive = receive?;
        match receive.recv().await {
            Some(Piece::Data(data)) => Some((Ok(Frame::data(data)), Some(receive))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the archive is not complete")), None)),
        }
    });
    BodyExt::boxed(StreamBody::new(pieces))
}
