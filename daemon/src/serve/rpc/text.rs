//! Params from text, and text from outcomes.

use std::io;
use std::sync::Arc;

use noxrunner_protocol::message::{Id, response, write_response};
use noxrunner_protocol::{ErrorKind, Method, RpcError};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::super::room::Bill;
use super::{Answer, Context};

/// From how many bytes on a result is written on a thread of its own: the daemon's one
/// thread writes less than that faster than it hands it over.
pub(super) const LARGE: usize = 64 * 1024;

/// Params as a method takes them: an object, or nothing where nothing is required.
pub(super) fn params<M: Method>(text: Option<&str>) -> Result<M::Params, RpcError> {
    let invalid = |why: String| RpcError::new(ErrorKind::InvalidArgument, why);
    let text = text.filter(|text| *text != "null").unwrap_or("{}");
    if !text.starts_with('{') {
        return Err(invalid(format!("{} takes its params by name", M::NAME))
            .hint(r#"send an object, as in "params": {"sessionId": "my-session"}"#));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let why = error.into_inner();
        // The place in the params' text means nothing to a person.
        let why = why.to_string();
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        invalid(if path == "." { why.to_owned() } else { format!("{path}: {why}") })
            .hint("rpc.discover describes the params of every method")
    })
}

/// An answer that is an error.
pub fn error_answer(id: Id, mut error: RpcError) -> Answer {
    error.message = shown(&error.message);
    // None of the protocol's types fails to be written.
    let text = response::<()>(&id, Err(&error)).unwrap_or_default();
    Answer { text, bill: Bill::none() }
}

/// How much of a message is shown, in characters.
const MESSAGE: usize = 2_000;

/// A message may repeat what the client sent, which may be long, and is shown on terminals.
pub(crate) fn shown(message: &str) -> String {
    let mut rest = message.chars();
    let mut shown = String::with_capacity(message.len().min(4 * MESSAGE));
    for c in rest.by_ref().take(MESSAGE) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

/// The text of a method's answer, which has at most so many bytes or is an error.
pub(super) fn answer<T: Serialize>(id: &Id, outcome: Result<T, RpcError>, most: usize) -> String {
    let text = match outcome {
        Ok(result) => response(id, Ok(&result)).unwrap_or_default(),
        Err(error) => error_answer(id.clone(), error).text,
    };
    if text.len() <= most { text } else { error_answer(id.clone(), too_large(most)).text }
}

fn too_large(most: usize) -> RpcError {
    let error = RpcError::new(
        ErrorKind::PayloadTooLarge,
        format!("the answer is larger than {most} bytes"),
    );
    error.hint("ask for less at a time")
}

/// The same for a result that is large, on a thread of its own. As text it may take several times
/// as much: it is measured first, and waits for room for all of that.
pub(super) async fn large<T: Serialize + Send + 'static>(
    context: &Context,
    outcome: Result<T, RpcError>,
    bill: Bill,
) -> (String, Bill) {
    let most = context.max_answer;
    let own = context.id.clone();
    let measured = alone(&context.writers, move || {
        let mut length = Length(0);
        // Writing to it does not fail.
        let _ = write_response(&mut length, &own, outcome.as_ref());
        (length.0, outcome)
    });
    let Some((length, outcome)) = measured.await else { return (stopping(context), Bill::none()) };
    if length > most {
        return (error_answer(context.id.clone(), too_large(most)).text, Bill::none());
    }
    // Given back first: who holds some of it while waiting for more could wait for ever.
    drop(bill);
    let bill = context.room.take(length).await;
    let own = context.id.clone();
    let written = alone(&context.writers, move || {
        let mut text = Vec::with_capacity(length);
        let _ = write_response(&mut text, &own, outcome.as_ref());
        // JSON is UTF-8.
        String::from_utf8(text).unwrap_or_default()
    });
    (written.await.unwrap_or_else(|| stopping(context)), bill)
}

/// Does something that keeps a processor busy, after others that do; `None` where the daemon ends.
async fn alone<T: Send + 'static>(
    writers: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let turn = Arc::clone(writers).acquire_owned().await.ok()?;
    let done = spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.ok()
}

fn stopping(context: &Context) -> String {
    let error = RpcError::new(ErrorKind::NotReady, "the daemon is stopping");
    error_answer(context.id.clone(), error).text
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut() {
        let whole = "ü".repeat(MESSAGE);
        assert_eq!(shown(&whole), whole);
        assert_eq!(shown(&format!("{whole}x")), format!("{whole}…"));
    }

    #[test]
    fn a_message_that_repeats_control_characters_shows_them_escaped() {
        let error = RpcError::new(ErrorKind::InvalidArgument, "no \u{1b}[2J\nü \u{85}");
        let text = error_answer(Id::Null, error).text;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"]["message"], r"no \u{1b}[2J\nü \u{85}");
    }
}
