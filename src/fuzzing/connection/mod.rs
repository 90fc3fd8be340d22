//! Whole byte streams against a server's connection: TLS and what lies below and above it.

mod bank;
mod peer;
mod talk;

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use self::bank::{CUSTOMERS, Hall};
use self::peer::Peer;
use super::Input;
use super::dialogue::UNREADABLE;
use super::model::{Ask, Keyed, What};
use super::vault::Vault;
use super::writing::text;
use crate::wire::frame;

/// A run is so long at most.
const STEPS_MAX: usize = 80;
/// So many connections come in a run.
const ARRIVALS_MAX: usize = 6;
/// By then a server is done with whatever has come, in virtual time.
const MOMENT: Duration = Duration::from_millis(1);
/// What a deadline may be late by: moments pass between steps.
const SLACK: Duration = Duration::from_millis(500);
/// Octets that a server takes from a peer that reads nothing: its buffers, TLS's and ours.
const TAKEN_UNREAD_MAX: usize = 131_072;
/// More requests than a server may take without an answer being read.
const FLOOD_REQUESTS: usize = 8_000;
/// Floods in a run: one takes longer than all else.
const FLOODS_MAX: usize = 2;
/// Nobody who is silent is still there after this: a customer's idle time, then a terminal's, with
/// every write and goodbye at its slowest.
const SILENCE: Duration = Duration::from_secs(60 + 600 + 10 + 10 + 5 + 1 + 1);

const WAITS_MS: [u64; 12] = [
    1, 200, 999, 1_001, 4_900, 5_001, 10_001, 29_000, 30_001, 60_001, 600_001, 900_001,
];
const AMOUNTS: [i64; 6] = [100, 5_000, 1, 0, 50_001, i64::MAX];

/// Connects to a server and does what the bytes say: handshakes and none, records whole, cut,
/// changed and withheld, requests whole, cut and in rows, goodbyes, silences and ends of every kind.
/// The bytes: the server's settings, two peers, and the steps. Time is virtual.
///
/// # Panics
/// Where a task of the server panics, outlives a deadline, or leaves a session behind; where an
/// answer is missing, comes out of order, or tells a stranger anything; where a server takes more
/// than it answers; where the books are not whole.
pub fn connection(bytes: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut input = Input::new(bytes);
        let hall = Hall::open(&mut input).await;
        let mut run = Run {
            peers: Vec::new(),
            arrivals: 0,
            floods: 0,
            hall,
            input,
            requests: 0,
            tail: Vec::new(),
        };
        run.play().await;
    });
}

struct Run<'a> {
    input: Input<'a>,
    hall: Hall,
    peers: Vec<Peer>,
    arrivals: usize,
    floods: usize,
    requests: u64,
    /// The rest of a request that was cut.
    tail: Vec<u8>,
}

impl Run<'_> {
    async fn play(&mut self) {
        for place in 0..2 {
            self.arrive(place).await;
        }
        for _ in 0..STEPS_MAX {
            if self.input.is_empty() {
                break;
            }
            self.step().await;
            self.settle(MOMENT).await;
        }
        self.settle(SILENCE).await;
        for peer in &self.peers {
            assert!(peer.task.is_none(), "a silent peer is still served");
        }
        self.hall.close().await;
    }

    async fn arrive(&mut self, place: usize) {
        if self.arrivals == ARRIVALS_MAX {
            return;
        }
        self.arrivals += 1;
        let peer = Peer::arrive(&self.hall, &mut self.input);
        match self.peers.get_mut(place) {
            // Who was there before is gone without a word.
            Some(before) => {
                before.wire.ends().tear();
                let mut before = std::mem::replace(before, peer);
                sleep(MOMENT).await;
                ended(&mut before).await;
                assert!(before.task.is_none(), "a lost peer is still served");
            }
            None => self.peers.push(peer),
        }
        // The handshake takes two turns of each end.
        for _ in 0..3 {
            self.settle(MOMENT).await;
        }
    }

    async fn step(&mut self) {
        let choice = self.input.byte();
        let place = usize::from(choice >> 7);
        match choice % 32 {
            0..=9 => self.ask(place, 1),
            10..=12 => {
                let count = usize::from(self.input.byte() % 6) + 2;
                self.ask(place, count);
            }
            13..=17 => self.disorder(place, choice % 32),
            18..=25 => self.below(place, choice % 32),
            26 | 27 => {
                let wait = self.input.pick(&WAITS_MS);
                self.settle(Duration::from_millis(wait)).await;
            }
            28 => self.stall(place),
            29 => self.hall.staff(&mut self.input).await,
            30 if self.input.byte() >= 224 => self.flood(place).await,
            30 => self.peers[place].renew_keys(),
            _ => self.arrive(place).await,
        }
    }

    /// Requests, all in one piece.
    fn ask(&mut self, place: usize, count: usize) {
        let mut plain = Vec::new();
        for _ in 0..count {
            plain.extend(self.framed(place));
        }
        self.peers[place].say(&plain);
    }

    fn framed(&mut self, place: usize) -> Vec<u8> {
        let text = self.request(place);
        let mut framed = Vec::new();
        // An empty text is no frame, and then nothing is said.
        let _ = frame::append(&mut framed, usize::MAX, |out| {
            out.extend_from_slice(text.as_bytes())
        });
        framed
    }

    fn request(&mut self, place: usize) -> String {
        self.requests += 1;
        let choice = self.input.byte();
        let (account, pin, _) = CUSTOMERS[usize::from(choice >> 4 & 1)];
        let ask = match choice % 16 {
            0..=3 if choice >= 224 => Ask::Login {
                account: account.to_owned(),
                pin: "1357".to_owned(),
            },
            0..=3 => Ask::Login {
                account: account.to_owned(),
                pin: pin.to_owned(),
            },
            4 => Ask::Ping,
            5 => Ask::Balance,
            6 => Ask::History {
                limit: 10,
                before: None,
            },
            7 => Ask::ChangePin {
                pin: self.input.pick(&[pin, "1357"]).to_owned(),
                new_pin: self.input.pick(&[pin, "271828", "1111"]).to_owned(),
            },
            8 => Ask::Logout,
            9 => return self.input.pick(&UNREADABLE).0.to_owned(),
            choice => Ask::Keyed(self.keyed(choice, place)),
        };
        text(&ask, self.requests, choice >= 128)
    }

    fn keyed(&mut self, choice: u8, place: usize) -> Keyed {
        let key = format!("key-of-the-fuzzer-{}", self.input.byte() % 16);
        let amount = self.input.pick(&AMOUNTS);
        let holds = &self.peers[place].talk.holds;
        let newest = holds.iter().next_back().cloned();
        let hold = || newest.clone().unwrap_or_else(|| "no-such-hold".to_owned());
        let what = match choice {
            10 => What::Deposit(amount),
            11 => What::Withdraw(amount),
            12 => What::Transfer(CUSTOMERS[1].0.to_owned(), amount),
            13 => What::Authorize(amount),
            14 => What::Capture(hold(), amount),
            _ => What::Release(hold()),
        };
        Keyed { key, what }
    }

    /// What is no request in one piece.
    fn disorder(&mut self, place: usize, choice: u8) {
        let plain = match choice {
            // A frame of anything.
            13 => {
                let length = self.input.byte().into();
                let payload = self.input.bytes(length);
                let mut framed = Vec::new();
                let _ = frame::append(&mut framed, usize::MAX, |out| {
                    out.extend_from_slice(payload)
                });
                framed
            }
            // Anything.
            14 => {
                let length = self.input.byte().into();
                self.input.bytes(length).to_vec()
            }
            // A length, and whatever comes next.
            15 => {
                let lengths = [0, 1, 256, 257, 300, 4_096, 4_097, 16_384, 16_385, u32::MAX];
                self.input.pick(&lengths).to_be_bytes().to_vec()
            }
            // The beginning of a request.
            16 => {
                let mut framed = self.framed(place);
                let at = usize::from(self.input.byte()) % framed.len().max(1);
                self.tail = framed.split_off(at);
                framed
            }
            // The end of the one that was cut last.
            _ => std::mem::take(&mut self.tail),
        };
        self.peers[place].say(&plain);
    }

    /// What happens to records, and below.
    fn below(&mut self, place: usize, choice: u8) {
        let (byte, peer) = (self.input.byte(), &mut self.peers[place]);
        match choice {
            18 => peer.holds_back = true,
            19 => peer.release(byte.into()),
            20 => {
                peer.holds_back = false;
                peer.release(usize::MAX);
            }
            21 => peer.spoil_next = byte,
            22 => {
                let bytes = self.input.bytes(byte.into());
                peer.garbage(bytes);
            }
            23 => peer.wire.ends().chunk = [1, 5, 512, usize::MAX][usize::from(byte) % 4],
            24 => peer.close_notify(),
            _ if byte < 128 => peer.wire.ends().end(),
            _ => peer.wire.ends().tear(),
        }
    }

    /// The peer takes no more than this.
    fn stall(&mut self, place: usize) {
        let room = self.input.pick(&[0, 1, 100, 20_000, usize::MAX]);
        self.peers[place].wire.ends().give_room(room);
    }

    /// Asks and asks, and reads nothing.
    async fn flood(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        // Behind the server's last word it takes what is still on its way, for a moment.
        if peer.is_stranger() || peer.talk.over || self.floods == FLOODS_MAX {
            return;
        }
        self.floods += 1;
        peer.wire.ends().give_room(0);
        let before = peer.wire.ends().taken;
        let mut plain = Vec::new();
        for _ in 0..FLOOD_REQUESTS {
            let _ = frame::append(&mut plain, usize::MAX, |out| {
                out.extend_from_slice(br#"{"id":1,"op":"ping"}"#);
            });
        }
        peer.say(&plain);
        sleep(MOMENT).await;
        let taken = self.peers[place].wire.ends().taken - before;
        assert!(taken <= TAKEN_UNREAD_MAX, "{taken} octets were taken");
    }

    /// Lets time pass; then whatever must be so is looked at.
    async fn settle(&mut self, time: Duration) {
        sleep(time).await;
        // What a peer says upon what it has read takes another turn.
        for _ in 0..2 {
            for peer in &mut self.peers {
                peer.pump(&self.hall);
            }
            sleep(MOMENT).await;
        }
        let mut served = 0;
        for peer in &mut self.peers {
            peer.pump(&self.hall);
            ended(peer).await;
            served += usize::from(peer.task.is_some());
            self.hall.look_at(peer);
        }
        assert!(self.hall.bank.seats().len() <= served, "nobody's session");
    }
}

/// Takes a task's end, and its panic.
async fn ended(peer: &mut Peer) {
    if let Some(task) = peer.task.take_if(|task| task.is_finished())
        && let Err(error) = task.await
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Hall {
    /// What must be so of a peer that is still served.
    fn look_at(&self, peer: &mut Peer) {
        let server = &Vault::open().config.server;
        let late = |since: Instant, limit: Duration| since.elapsed() > limit + SLACK;
        let heard = peer.is_heard();
        let waits_since = peer.talk.waits_since();
        if peer.task.is_none() {
            return;
        }
        let strange = peer.is_stranger() && late(peer.began, server.handshake_timeout);
        assert!(!strange, "a handshake without end");
        if !heard || peer.talk.closed {
            return;
        }
        assert!(peer.talk.is_answered(self), "no answer");
        let waits = waits_since.is_some_and(|since| late(since, server.frame_timeout));
        assert!(!waits, "a frame without end");
    }
}
