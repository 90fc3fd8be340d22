//! The hot paths, one function each, over the library's public interface; what they are fed with;
//! and a table of them for the counter of instructions.
//!
//! Nothing here depends on the machine's clock, chance or disk, so that two runs do the same.

#[path = "../shared/bank.rs"]
mod bank;

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;

use atm_bank::bank::{Bank, Moved, Session};
use atm_bank::domain::{
    AccountNumber, ClockPolicy, ClockReading, IdempotencyKey, RequestedAmount, Timestamp,
};
use atm_bank::store::{Order, OrderKind};
use atm_bank::surroundings::{Guarded, Surroundings};
use atm_bank::wire::answer::{Answer, HistoryLine, Members};
use atm_bank::wire::frame::{self, HEADER_BYTES, Next};
use atm_bank::wire::request::{Envelope, Keyed, Request};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The largest payload after a log-in, as configured by default.
const PAYLOAD_BYTES_MAX: usize = 16_384;
/// Requests that a terminal sent without waiting, in one buffer.
const PIPELINED: u64 = 16;
/// Lines of a history, as many as a request gets that asks for no number.
const HISTORY_LINES: i64 = 10;

const ANNE: &str = "zz-00001";
const BERT: &str = "zz-00002";
const KEY: &str = "0198f2a4-5b6c-7d8e-9fa0-b1c2d3e4f506";

/// Noon of 2026-01-01, UTC.
const POLICY: ClockPolicy = ClockPolicy {
    jump_ms: 60_000,
    ahead_at_start_ms: 604_800_000,
};
const NOON: Timestamp = Timestamp::from_unix_ms(1_767_268_800_000);

/// Finds every frame of `bytes`, as a connection does; returns how many there are.
pub(crate) fn frame_decode(mut bytes: &[u8]) -> usize {
    let mut frames = 0;
    while let Next::Whole { end } = frame::next(black_box(bytes), PAYLOAD_BYTES_MAX).unwrap() {
        black_box(&bytes[HEADER_BYTES..end]);
        bytes = &bytes[end..];
        frames += 1;
    }
    frames
}

/// Reads one request.
pub(crate) fn parse(payload: &[u8]) -> Envelope {
    Envelope::parse(black_box(payload))
}

/// Writes one answer, into a buffer that was used before.
pub(crate) fn encode(answer: &Answer, out: &mut Vec<u8>) {
    out.clear();
    black_box(answer).append_frame(out).unwrap();
    black_box(out);
}

/// Frames of requests for the balance, one behind the other.
pub(crate) fn pipelined() -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 0..PIPELINED {
        frame::append(&mut bytes, PAYLOAD_BYTES_MAX, |out| {
            Request::Balance.encode(id, out);
        })
        .unwrap();
    }
    bytes
}

/// A request as a terminal writes it.
pub(crate) fn payload(request: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(4_711, &mut out);
    assert!(parse(&out).request.is_ok());
    out
}

pub(crate) fn deposit_request() -> Request {
    Request::Deposit(keyed())
}

pub(crate) fn transfer_request() -> Request {
    Request::Transfer {
        to: number(BERT),
        keyed: keyed(),
    }
}

fn keyed() -> Keyed {
    Keyed {
        amount: RequestedAmount(12_345),
        key: KEY.parse().unwrap(),
    }
}

/// The answer to a deposit.
pub(crate) fn deposit_answer() -> Answer {
    let members = Members {
        entry: Some(123_456),
        balance: Some(1_234_567),
        available: Some(1_204_567),
        ..Members::default()
    };
    Answer::done(Some(4_711), members)
}

/// The answer to a request for the history: every other line is a transfer.
pub(crate) fn history_answer() -> Answer {
    let line = |index: i64| HistoryLine {
        entry: 123_456 - index,
        at: "2026-01-01T12:00:00.000Z".to_owned(),
        kind: if index % 2 == 0 {
            "deposit".into()
        } else {
            "transfer".into()
        },
        amount: 12_345,
        balance: 1_234_567 - 12_345 * index,
        terminal: "terminal-17".to_owned(),
        counterparty: (index % 2 == 1).then(|| BERT.to_owned()),
    };
    let members = Members {
        entries: Some((0..HISTORY_LINES).map(line).collect()),
        ..Members::default()
    };
    Answer::done(Some(4_711), members)
}

/// A bank over the embedded store with a customer who is logged in. Orders go the whole way from
/// [`Bank`] through the writer's transaction and back; only the disk is memory where the system
/// has a folder for that. More than a tenth of an order is SHA-256, whose code is chosen by
/// the processor.
pub(crate) struct Counter {
    // In this order they are dropped: the session needs the store, the store its folder.
    session: Session,
    bank: Arc<Bank>,
    runtime: Runtime,
    orders: u64,
    _folder: TempDir,
}

impl Counter {
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        // Guarded, as a server's is, so that what a commit keeps of it is counted too.
        let read = || ClockReading {
            wall: NOON,
            boot_ms: 1_000_000,
        };
        let boot = "5f0c7e3a-1b7d-4d52-9a56-0c1d2e3f4a5b";
        let clock: Arc<dyn Surroundings> = Arc::new(Guarded::over(read, boot, None, POLICY));
        let (bank, hash) = bank::open(&folder.path().join("bank.db"), clock);
        let session = runtime.block_on(async {
            let numbers = [ANNE, BERT].map(number).into_iter();
            bank::open_accounts(&bank, &hash, numbers, 1_000_000).await;
            bank::log_in(&bank, 1, number(ANNE)).await
        });
        Self {
            session,
            bank,
            runtime,
            orders: 0,
            _folder: folder,
        }
    }

    /// One deposit, under a new key.
    pub(crate) fn deposit(&mut self) -> Moved {
        self.order(12_345, OrderKind::Deposit)
    }

    /// One transfer, under a new key.
    pub(crate) fn transfer(&mut self) -> Moved {
        self.order(1, OrderKind::Transfer(number(BERT)))
    }

    fn order(&mut self, amount: i64, kind: OrderKind) -> Moved {
        let order = Order {
            key: self.next_key(),
            amount: RequestedAmount(amount),
            kind,
        };
        let (bank, session) = (&self.bank, &mut self.session);
        let moved = async { bank.move_all(session, vec![order]).await.remove(0) };
        wait(&self.runtime, moved)
    }

    /// Keys grow as those of terminals do.
    fn next_key(&mut self) -> IdempotencyKey {
        self.orders += 1;
        let orders = self.orders;
        format!("0198f2a4-5b6c-7d8e-9fa0-{orders:012x}")
            .parse()
            .unwrap()
    }
}

fn wait<E: std::fmt::Debug>(
    runtime: &Runtime,
    order: impl Future<Output = Result<Moved, E>>,
) -> Moved {
    runtime.block_on(order).unwrap()
}

fn number(text: &str) -> AccountNumber {
    text.parse().unwrap()
}
