//! What a terminal reads: a hostile bank's answers, and its own journal.

use super::Input;
use super::kitchen::wait;
use super::wire::Wire;
use crate::atm::connection::{Connection, Deadlines};
use crate::atm::journal::Record;
use crate::atm::script::report::{Fate, Report};
use crate::atm::words;
use crate::domain::{Currency, RequestedAmount};
use crate::wire::answer::Answer;
use crate::wire::frame;
use crate::wire::request::{Keyed, Request};

/// Pieces of a stream, and requests, of one run at most.
const PIECES_MAX: usize = 48;
const NOTICES_MAX: usize = 16;
const CODES: [u16; 22] = [
    0, 10, 11, 12, 20, 21, 22, 23, 24, 25, 30, 31, 32, 33, 34, 35, 36, 40, 41, 42, 50, 52,
];
/// Members that an answer may have, true or not.
const MEMBERS: [&str; 17] = [
    "",
    r#","balance":5,"available":-3,"currency":"JPY""#,
    r#","balance":9223372036854775807,"available":-9223372036854775808,"currency":"no""#,
    r#","session":{"idle_timeout_ms":1,"max_timeout_ms":18446744073709551615}"#,
    r#","entry":-1,"replayed":true,"late":true"#,
    r#","hold":"\u001b]0;x\u0007","expires_in_ms":0"#,
    r#","message":"\u202e\u001b[2J\r\n","retry_after_ms":18446744073709551615"#,
    r#","limit":-5,"remaining":9223372036854775807,"reference":"\u0000""#,
    r#","must_change_pin":true,"later":[[[{}]]]"#,
    r#","entries":[]"#,
    r#","entries":[{"entry":1,"at":"\u001b","kind":"\u009b","amount":-9223372036854775808,"balance":1,"terminal":"\u0085"}]"#,
    r#","entries":[{"entry":1,"at":"2026-01-01T00:00:00.000Z","kind":"deposit","amount":1,"balance":1,"terminal":"t","counterparty":"\u2028"}]"#,
    r#","balance":1.5"#,
    r#","balance":null"#,
    r#","time":"2026-01-31T09:30:00.000Z""#,
    r#","time":"\u001b[2J9999-99-99T25:61:61.000Z""#,
    r#","time":[7,null]"#,
];

/// Lets a terminal talk with a bank that sends what the bytes say, or read a journal's line. The
/// bytes: which of the two, then the size of pieces, and the pieces.
///
/// # Panics
/// Where an answer is taken for another request's, more notices wait than may, or anything that
/// commands a terminal's screen would be printed; where a journal's line is not read the same once
/// written.
pub fn answers(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 8 {
        0 => journal(input.rest()),
        choice => wait(talk(usize::from(choice), input)),
    }
}

fn journal(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(record) = Record::from_line(text) else {
        return;
    };
    let line = record.to_line().expect("a line");
    let line = String::from_utf8(line).expect("text");
    assert!(!line.contains('\n'), "a record of two lines");
    assert_eq!(Record::from_line(&line), Some(record), "read as another");
}

async fn talk(choice: usize, mut input: Input<'_>) {
    let wire = Wire::new();
    {
        let mut ends = wire.ends();
        ends.chunk = [usize::MAX, 1, 2, 3, 7, 64, 1_000][choice - 1];
        let mut id = 1;
        for _ in 0..PIECES_MAX {
            if input.is_empty() {
                break;
            }
            ends.bring(&piece(&mut input, &mut id));
        }
        ends.end();
    }
    let mut connection = Connection::over(wire, Deadlines::default());
    for number in 0..PIECES_MAX {
        let request = request(number);
        let Ok(answer) = connection.ask(&request).await else {
            break;
        };
        assert!(answer.id.is_some(), "an answer to nobody");
        show(request.op(), answer);
        let mut notices = 0;
        while let Some(notice) = connection.earlier_notice() {
            notices += 1;
            assert_eq!(notice.id, None);
            show("notice", notice);
        }
        assert!(notices <= NOTICES_MAX, "{notices} notices wait");
        while choice.is_multiple_of(2)
            && let Ok(notice) = connection.notice().await
        {
            assert_eq!(notice.id, None);
            show("notice", notice);
        }
    }
    connection.farewell(choice < 4).await;
}

fn piece(input: &mut Input<'_>, id: &mut u64) -> Vec<u8> {
    let kind = input.byte();
    let payload = match kind % 8 {
        0 => {
            let length = input.byte().into();
            return input.bytes(length).to_vec();
        }
        1 => {
            let length = input.byte().into();
            input.bytes(length).to_vec()
        }
        2 | 3 => {
            let (code, members) = (input.pick(&CODES), input.pick(&MEMBERS));
            format!(r#"{{"id":null,"code":{code}{members}}}"#).into_bytes()
        }
        _ => {
            let (code, members) = (input.pick(&CODES), input.pick(&MEMBERS));
            let own = if kind < 240 { *id } else { 7 };
            *id += 1;
            format!(r#"{{"id":{own},"code":{code}{members}}}"#).into_bytes()
        }
    };
    let mut framed = Vec::new();
    // An empty payload is no frame; then it is bytes without one.
    let _ = frame::append(&mut framed, usize::MAX, |out| {
        out.extend_from_slice(&payload)
    });
    framed
}

fn request(number: usize) -> Request {
    let key = "0123456789abcdef".parse().expect("a key");
    let hold = "h-1".parse().expect("a hold's name");
    let amount = RequestedAmount(5);
    match number % 6 {
        0 => Request::Ping,
        1 => Request::Balance,
        2 => Request::Authorize(Keyed { amount, key }),
        3 => Request::Capture {
            hold,
            keyed: Keyed { amount, key },
        },
        4 => Request::History {
            limit: 10,
            before: None,
        },
        _ => Request::Deposit(Keyed { amount, key }),
    }
}

/// Every way in which a terminal shows an answer.
fn show(command: &str, answer: Answer) {
    let named = answer.members.currency.as_deref().unwrap_or("USD");
    let dollars = || "USD".parse().expect("a currency");
    let currency: Currency = named.parse().unwrap_or_else(|_| dollars());
    let refusal = words::refusal(&answer, Some(&currency));
    let fate = Fate::Answered(Box::new(answer));
    let report = Report {
        command,
        fate: &fate,
        currency: &currency,
        recovered: &[],
    };
    for text in [refusal, report.to_text(), report.to_json().to_string()] {
        let harmless = |letter: char| !letter.is_control() || letter == '\n';
        assert!(text.chars().all(harmless), "a screen's command: {text:?}");
    }
}
