//! The calls in flight on one connection, whose answers come as they are ready.

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::rpc::{Answer, Work};

/// The calls of one connection. Dropping it drops them.
pub struct Calls {
    running: FuturesUnordered<BoxFuture<'static, (usize, Answer)>>,
    /// A batch for which there are too many in flight as yet.
    waiting: Option<(usize, BoxFuture<'static, Answer>)>,
    in_flight: usize,
    most: usize,
}

impl Calls {
    /// None yet, and never more than so many at once.
    pub fn new(most: usize) -> Self {
        Self { running: FuturesUnordered::new(), waiting: None, in_flight: 0, most }
    }

    /// Whether another message may be taken up.
    pub fn has_room(&self) -> bool {
        self.waiting.is_none() && self.in_flight < self.most
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_none() && self.running.is_empty()
    }

    /// Takes up a message; what needed no waiting is answered at once. Only where there is room.
    pub fn start(&mut self, work: Work) -> Option<Answer> {
        match work {
            Work::Done(answer) => return answer,
            Work::Running { calls, answer } => {
                debug_assert!(self.waiting.is_none(), "it is taken up out of turn");
                self.waiting = Some((calls, answer));
                self.admit();
            }
        }
        None
    }

    /// Lets what waits begin, if there is room for it.
    fn admit(&mut self) {
        let fits = |calls: usize| self.in_flight == 0 || self.in_flight + calls <= self.most;
        if let Some((calls, answer)) = self.waiting.take_if(|(calls, _)| fits(*calls)) {
            self.in_flight += calls;
            self.running.push(async move { (calls, answer.await) }.boxed());
        }
    }

    /// The next answer that is ready; waits for ever where nothing is in flight.
    pub async fn answer(&mut self) -> Answer {
        let Some((calls, answer)) = self.running.next().await else {
            return std::future::pending().await;
        };
        self.in_flight -= calls;
        self.admit();
        answer
    }

    /// The next answer, if one is ready.
    pub fn ready(&mut self) -> Option<Answer> {
        self.answer().now_or_never()
    }
}
