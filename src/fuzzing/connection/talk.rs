//! What was said on a connection and what came back: every answer to its request, in order, and
//! nothing to strangers but what may be.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::bank::Hall;
use crate::wire::answer::Answer;
use crate::wire::code::Code;
use crate::wire::frame::{self, HEADER_BYTES, Next, SERVER_PAYLOAD_BYTES_MAX};
use crate::wire::request::{Envelope, Request};

/// One connection's plain text.
pub(super) struct Talk {
    /// A certificate of the bank's own.
    certified: bool,
    logged_in: bool,
    /// What was said and is not answered yet.
    said: Vec<u8>,
    /// What came and is no whole frame yet.
    heard: Vec<u8>,
    /// Nothing more may come.
    pub(super) over: bool,
    answers: usize,
    /// This end has said goodbye.
    pub(super) closed: bool,
    /// Since when a frame has been begun and not ended.
    begun: Option<(usize, Instant)>,
    /// Names of holds that were told.
    pub(super) holds: BTreeSet<String>,
}

impl Talk {
    pub(super) fn new(certified: bool) -> Self {
        Self {
            certified,
            logged_in: false,
            said: Vec::new(),
            heard: Vec::new(),
            over: false,
            answers: 0,
            closed: false,
            begun: None,
            holds: BTreeSet::new(),
        }
    }

    pub(super) fn said(&mut self, plain: &[u8]) {
        self.said.extend_from_slice(plain);
    }

    fn limit(&self, hall: &Hall) -> usize {
        match self.logged_in {
            true => hall.frame_after_login,
            false => hall.frame_before_login,
        }
    }

    /// The server has had time for all that was said: nothing that could be answered waits.
    pub(super) fn is_answered(&self, hall: &Hall) -> bool {
        let next = frame::next(&self.said, self.limit(hall));
        self.over || matches!(next, Ok(Next::Needs { .. }))
    }

    /// Since when the server has waited for the rest of a frame.
    pub(super) fn waits_since(&mut self) -> Option<Instant> {
        if self.said.is_empty() {
            self.begun = None;
        } else if self
            .begun
            .is_none_or(|(answers, _)| answers != self.answers)
        {
            self.begun = Some((self.answers, Instant::now()));
        }
        self.begun.map(|(_, since)| since)
    }

    /// Plain text of the server's.
    ///
    /// # Panics
    /// Where it is anything that a server may not say.
    pub(super) fn hear(&mut self, plain: &[u8], hall: &Hall) {
        self.heard.extend_from_slice(plain);
        loop {
            match frame::next(&self.heard, SERVER_PAYLOAD_BYTES_MAX) {
                Ok(Next::Needs { .. }) => break,
                Ok(Next::Whole { end }) => {
                    let frame: Vec<u8> = self.heard.drain(..end).collect();
                    let payload = &frame[HEADER_BYTES..];
                    let answer = Answer::parse(payload).expect("no answer in a frame");
                    self.judge(answer, hall);
                }
                Err(error) => panic!("the server's frame: {error}"),
            }
        }
    }

    fn judge(&mut self, answer: Answer, hall: &Hall) {
        assert!(
            !self.over,
            "something comes behind the last answer: {answer:?}"
        );
        self.holds.extend(answer.members.hold.clone());
        match (answer.id, answer.code) {
            (None, Code::SessionEnded) => {
                assert!(self.logged_in, "a session ends that did not run");
                self.logged_in = false;
            }
            (None, Code::Full) => {
                assert!(hall.single && self.answers == 0, "it is not full");
                self.over = true;
            }
            (None, Code::GoingDown) => {
                assert!(hall.draining, "it does not go down");
                self.over = true;
            }
            _ => self.judge_answer(&answer, hall),
        }
        self.answers += 1;
    }

    /// The answer to the oldest request that has none.
    fn judge_answer(&mut self, answer: &Answer, hall: &Hall) {
        let end = match frame::next(&self.said, self.limit(hall)) {
            Ok(Next::Whole { end }) => end,
            Ok(Next::Needs { .. }) => panic!("an answer to nothing: {answer:?}"),
            Err(_) => {
                assert_eq!((answer.id, answer.code), (None, Code::FrameSize));
                self.over = true;
                return;
            }
        };
        let frame: Vec<u8> = self.said.drain(..end).collect();
        let Envelope { id, request } = Envelope::parse(&frame[HEADER_BYTES..]);
        assert_eq!(answer.id, id, "an answer to another: {answer:?}");
        match request {
            Err(_) => assert!(
                matches!(
                    answer.code,
                    Code::Malformed | Code::UnknownOp | Code::TooMany
                ),
                "{answer:?}"
            ),
            Ok(request) => self.judge_request(&request, answer),
        }
    }

    fn judge_request(&mut self, request: &Request, answer: &Answer) {
        let code = answer.code;
        let unexpected = [
            Code::FrameSize,
            Code::Malformed,
            Code::UnknownOp,
            Code::Internal,
        ];
        assert!(!unexpected.contains(&code), "{request:?}: {answer:?}");
        let done = code == Code::Done;
        match request {
            Request::Ping => assert!(done || code == Code::TooMany, "{answer:?}"),
            Request::Login { .. } => {
                let already = [Code::AlreadyLoggedIn, Code::TooMany].contains(&code);
                assert!(!self.logged_in || already, "a second log-in: {answer:?}");
                assert!(self.logged_in || code != Code::AlreadyLoggedIn);
                self.logged_in |= done;
            }
            Request::Capture { .. } | Request::Release { .. } if self.certified => {
                let told = answer.members.balance.is_some();
                assert!(self.logged_in || !told, "a balance for nobody");
                assert_ne!(code, Code::NotLoggedIn);
            }
            _ => {
                let refused = matches!(code, Code::NotLoggedIn | Code::TooMany);
                assert!(self.logged_in || refused, "served a stranger: {answer:?}");
                assert!(!self.logged_in || code != Code::NotLoggedIn, "{answer:?}");
                let ends = matches!(request, Request::Logout) && done;
                self.logged_in &= !ends;
            }
        }
    }
}
