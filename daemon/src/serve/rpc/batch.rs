//! The answers to a batch, put together as they come so that no more of them is
//! held than may be sent.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use noxrunner_protocol::message::Id;
use noxrunner_protocol::{ErrorKind, RpcError};

use super::super::room::Bill;
use super::{Answer, Work, error_answer};

/// Answers in one array. They have at most so many bytes together, or are one error.
pub(super) fn answer(entries: Vec<Work>, most: usize) -> Work {
    let mut array = Answers { text: "[".to_owned(), most, too_long: false };
    let mut calls = 0;
    let mut running = FuturesUnordered::new();
    for work in entries {
        match work {
            Work::Done(None) => {}
            Work::Done(Some(answer)) => array.add(&answer),
            Work::Running { calls: more, answer } => {
                calls += more;
                running.push(answer);
            }
        }
    }
    if running.is_empty() {
        // Notifications only: nothing is said, not even that it is nothing.
        return Work::Done((!array.is_empty()).then(|| array.finish()));
    }
    let answer = async move {
        while let Some(answer) = running.next().await {
            array.add(&answer);
        }
        array.finish()
    };
    Work::Running { calls, answer: Box::pin(answer) }
}

struct Answers {
    text: String,
    most: usize,
    too_long: bool,
}

impl Answers {
    fn add(&mut self, answer: &Answer) {
        if self.text.len() + answer.text.len() + ",]".len() > self.most {
            self.text = String::new();
            self.too_long = true;
        }
        if !self.too_long {
            if !self.is_empty() {
                self.text.push(',');
            }
            self.text.push_str(&answer.text);
        }
    }

    fn is_empty(&self) -> bool {
        self.text == "["
    }

    fn finish(mut self) -> Answer {
        if self.too_long {
            let error = RpcError::new(
                ErrorKind::PayloadTooLarge,
                format!("the answers of a batch have at most {} bytes", self.most),
            );
            let hint = "the calls were carried out; ask for less at a time";
            return error_answer(Id::Null, error.hint(hint));
        }
        self.text.push(']');
        Answer { text: self.text, bill: Bill::none() }
    }
}
