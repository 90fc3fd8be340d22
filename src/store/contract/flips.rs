//! One bit of the store's file flips: whatever could change an answer is refused or named.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::rig::*;
use crate::store::enrolment::{CodeHash, NewCertificate, Warrant};
use crate::store::sqlite::SqliteStore;
use crate::store::{Act, Done, OrderKind};

/// How many; more where there is time for more.
fn flips() -> usize {
    let asked = std::env::var("STORE_FLIPS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(100)
}

/// A bank that has something of everything.
async fn furnished(rig: &Rig) {
    for index in 1..=20 {
        rig.open(&format!("zz-{index:05}"), 1_000).await;
    }
    let anne = rig.log_in(ANNE).await;
    for index in 0..20 {
        rig.deposit(&anne, 5).await.unwrap();
        rig.withdraw(&anne, 4).await.unwrap();
        rig.transfer(&anne, BERT, 1).await.unwrap();
        rig.order(&anne, key(&format!("text-{index}")), 1, OrderKind::Deposit)
            .await
            .unwrap();
        rig.authorize(&anne, &format!("h-{index}"), 7)
            .await
            .unwrap();
        match index % 4 {
            0 => drop(rig.capture(&format!("h-{index}"), 6).await.unwrap()),
            1 => drop(rig.free(&format!("h-{index}")).await.unwrap()),
            _ => {}
        }
    }
    rig.advance(200 * SECOND);
    rig.sweep().await;
    rig.capture("h-2", 3).await.unwrap();
    rig.authorize(&anne, "open", 9).await.unwrap();
}

/// And of what staff and others leave.
async fn staffed(rig: &Rig) {
    rig.try_pin(BERT, WRONG_PIN).await.unwrap();
    rig.try_pin(NOBODY, WRONG_PIN).await.unwrap();
    let name = || "t-8".parse().unwrap();
    let expires_at = rig.context().now.plus_ms(1_000_000);
    for (terminal, code) in [(name(), 1), ("t-7".parse().unwrap(), 2)] {
        let code = CodeHash([code; 32]);
        rig.act(Act::Invite {
            name: terminal,
            code,
            expires_at,
        })
        .await;
    }
    let certificate = NewCertificate {
        serial: "0a1b".to_owned(),
        terminal: name(),
        key: [3; 32],
        ends_at: expires_at,
        der: vec![7; 300],
    };
    let warrant = Warrant::Code(CodeHash([1; 32]));
    let recorded = rig
        .store()
        .record_certificate(warrant, certificate, rig.context());
    recorded.await.unwrap();
    rig.act(Act::Terminal {
        name: "t-9".parse().unwrap(),
        disabled: true,
    })
    .await;
    rig.act(Act::Adjust {
        number: number(BERT),
        amount: 5,
        reason: "found".to_owned(),
    })
    .await;
    rig.act(Act::Lock(number("zz-00003"), true)).await;
    rig.act(Act::Limit {
        number: number("zz-00004"),
        withdrawal: Some(5),
        daily: Some(9),
    })
    .await;
    rig.assert_clean().await;
}

/// Everything that an answer can come from. A business day that nothing was used of ends by itself;
/// when the bank's own accounts were opened is not asked by anybody.
const ALL: &[&str] = &[
    "SELECT id, number, kind, status, currency, balance, held, iif(day_used = 0, 0, day), day_used, withdrawal_limit, \
     daily_limit, head, iif(kind = 0, opened_at, 0), last_entry, postings FROM account",
    "SELECT name, value, sum FROM bank WHERE name <> 'made_at'",
    "SELECT * FROM credential",
    "SELECT * FROM try",
    "SELECT * FROM terminal",
    "SELECT * FROM entry",
    "SELECT * FROM reason",
    "SELECT * FROM hold",
    "SELECT * FROM request",
    "SELECT * FROM audit",
    "SELECT * FROM audit_head",
    "SELECT * FROM row_record",
    "SELECT * FROM row_record_head",
    "SELECT * FROM posting_mark",
    "SELECT * FROM certificate",
    "SELECT * FROM invitation",
];

fn everything(path: &Path) -> rusqlite::Result<Vec<String>> {
    let connection = Connection::open(path)?;
    let mut rows = Vec::new();
    for sql in ALL {
        let mut statement = connection.prepare(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let values = (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap()));
            rows.push(format!("{sql}: {}", values.collect::<Vec<_>>().join(", ")));
        }
    }
    rows.sort();
    Ok(rows)
}

/// What came of a file with one bit flipped.
enum Came {
    /// It was refused, or `verify` named it.
    Told,
    Nothing,
    /// An answer would be another.
    Unseen(String),
}

async fn look_at(rig: &mut Rig, before: &[String]) -> Came {
    let (path, keyring) = (rig.path(), rig.keyring.clone());
    let Ok(store) = SqliteStore::open(&path, dollars(), NEW_YEAR, keyring) else {
        return Came::Told;
    };
    rig.store = Some(std::sync::Arc::new(store));
    let verified = rig.try_act(Act::Verify(None)).await;
    rig.shut_store();
    match verified {
        Ok(Done::Audit(audit)) if audit.faults.is_empty() => {}
        _ => return Came::Told,
    }
    match everything(&path) {
        Ok(after) if after == before => Came::Nothing,
        Ok(after) => {
            let other = after.into_iter().find(|row| !before.contains(row));
            Came::Unseen(other.unwrap_or_else(|| "a row is gone".to_owned()))
        }
        Err(error) => Came::Unseen(error.to_string()),
    }
}

#[tokio::test]
async fn a_bit_that_flips_in_the_store_is_refused_or_named_or_changes_nothing() {
    let mut rig = Rig::sqlite();
    furnished(&rig).await;
    staffed(&rig).await;
    rig.shut_store();
    let path = rig.path();
    let whole = fs::read(&path).unwrap();
    let before = everything(&path).unwrap();
    let mut state = 9_u64;
    let mut dice = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut told, mut unseen) = (0, Vec::new());
    for _ in 0..flips() {
        let (octet, bit) = (dice(whole.len()), dice(8));
        let mut flipped = whole.clone();
        flipped[octet] ^= 1 << bit;
        fs::write(&path, &flipped).unwrap();
        match look_at(&mut rig, &before).await {
            Came::Told => told += 1,
            Came::Nothing => {}
            Came::Unseen(row) => unseen.push(format!("octet {octet}, bit {bit}: {row}")),
        }
        for suffix in ["db-wal", "db-shm"] {
            let _ = fs::remove_file(path.with_extension(suffix));
        }
    }
    println!("{told} of {} flips were told of", flips());
    assert!(unseen.is_empty(), "{unseen:#?}");
    assert!(told > flips() / 10, "{told}");
}
