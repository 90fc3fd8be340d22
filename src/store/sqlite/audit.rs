//! The full audit: every entry read and every sum, balance, hold, chain and key checked again.
//!
//! It is read in slices, beside a bank that goes on. What is only appended is played again from its
//! beginning; once that has caught up with the present, all that follows from it is compared in one
//! short snapshot. A row that is judged by itself, or by rows that never change, is judged in any.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use rusqlite::Connection;

use super::covered_replay::RowRecordsReplay;
use super::open::MIGRATIONS;
use super::present::Present;
use super::records::AuditLogReplay;
use super::replay::LedgerReplay;
use super::slices::Slices;
use super::{clock, covered_replay, schema, sums};
use crate::access::row_mac::Keyring;
use crate::domain::Timestamp;
use crate::store::{AUDIT_FAULTS_MAX, Acknowledged, Audit, Digest, StoreError};

#[derive(Default)]
pub(super) struct Faults {
    named: Vec<String>,
    more: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: String) {
        if self.named.len() < AUDIT_FAULTS_MAX {
            self.named.push(fault);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    fn into_words(mut self) -> Vec<String> {
        if self.more > 0 {
            self.named.push(format!("and {} more", self.more));
        }
        self.named
    }
}

/// Audits the ledger, beside a bank that may go on.
pub(super) fn audit(
    slices: &mut Slices<'_>,
    keyring: &Keyring,
    before: Option<Digest>,
    now: Timestamp,
) -> Result<Audit, StoreError> {
    let began = clock::Began::now(slices.connection)?;
    let mut faults = Faults::default();
    for difference in schema::differences(slices.connection, MIGRATIONS.len())? {
        faults.add(format!("schema: {difference}"));
    }
    integrity(slices, &mut faults)?;
    let mut chains = Chains {
        ledger: LedgerReplay::new(before),
        log: AuditLogReplay::new(before.and_then(|digest| digest.log)),
        rows: RowRecordsReplay::new(before.and_then(|digest| digest.rows)),
    };
    chains.catch_up(slices, &mut faults)?;
    let mut audit = present(slices.connection, keyring, &mut chains, &mut faults)?;
    slices.renew()?;
    let accounts = &chains.ledger.accounts;
    let unchecked = covered_replay::audit(slices, keyring, accounts, &mut faults)?;
    audit.unchecked_rows = audit.unchecked_rows.saturating_add(unchecked);
    holds(slices, &mut faults)?;
    audit.keys = keys(slices, &mut faults)?;
    audit.noted = clock::audit_stamps(slices, (now, &began), &chains.log.accepted, &mut faults)?;
    sums::audit(slices, &mut faults)?;
    others(slices, &mut faults)?;
    if audit.ledger_total != 0 {
        faults.add(format!(
            "all balances sum to {}, not to 0",
            audit.ledger_total
        ));
    }
    audit.faults = faults.into_words();
    Ok(audit)
}

/// Audits the store at `path` as a served one is; `pause` is called between two snapshots.
#[cfg(test)]
pub(in crate::store) fn audit_with(
    path: &std::path::Path,
    keyring: &Keyring,
    before: Option<Digest>,
    now: Timestamp,
    pause: impl FnMut(bool),
) -> Result<Audit, StoreError> {
    let connection = super::open::reader(path).map_err(|_| StoreError::Closed)?;
    let mut slices = Slices::with_pause(&connection, pause)?;
    audit(&mut slices, keyring, before, now)
}

/// SQLite's own check of the file, and that every reference leads somewhere. That each page has one use
/// only the whole file tells; that indexes and rows agree takes longest, and is asked of each table.
fn integrity(slices: &mut Slices<'_>, faults: &mut Faults) -> Result<(), StoreError> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut statement = slices.connection.prepare(sql)?;
    let tables = statement.query_map([], |row| row.get(0))?;
    let tables: Vec<String> = tables.collect::<Result<_, _>>()?;
    drop(statement);
    let mut found = BTreeSet::new();
    let quoted = tables.iter().map(|table| table.replace('"', "\"\""));
    let each = quoted.map(|table| format!("PRAGMA integrity_check(\"{table}\")"));
    for sql in std::iter::once("PRAGMA quick_check(20)".to_owned()).chain(each) {
        slices.renew()?;
        let mut statement = slices.connection.prepare(&sql)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        for row in rows {
            let fault = row?;
            if fault != "ok" && found.insert(fault.clone()) {
                faults.add(format!("file: {fault}"));
            }
        }
    }
    for table in tables {
        slices.renew()?;
        let sql = "SELECT \"table\" FROM pragma_foreign_key_check(?1)";
        let mut statement = slices.connection.prepare(sql)?;
        let rows = statement.query_map([&table], |row| row.get::<_, String>(0))?;
        for table in rows {
            faults.add(format!(
                "a row of {} refers to one that is not there",
                table?
            ));
        }
    }
    slices.renew()
}

/// All that is only appended.
struct Chains {
    ledger: LedgerReplay,
    log: AuditLogReplay,
    rows: RowRecordsReplay,
}

impl Chains {
    /// Reads all of it: what is read then is what the snapshot has that is open.
    fn catch_up(&mut self, slices: &mut Slices<'_>, faults: &mut Faults) -> Result<(), StoreError> {
        while self.read_on(slices.connection, faults)? {
            slices.turn()?;
        }
        Ok(())
    }

    /// Reads a window more; whether there may be more. Accounts come first: entries and records speak of
    /// them.
    fn read_on(
        &mut self,
        connection: &Connection,
        faults: &mut Faults,
    ) -> Result<bool, StoreError> {
        let Self { ledger, log, rows } = self;
        Ok(ledger.accounts.read_on(connection)?
            || ledger.read_on(connection, faults)?
            || log.read_on(connection, faults)?
            || rows.read_on(connection, &mut ledger.accounts, faults)?)
    }
}

/// Compares what follows from the chains, all in the snapshot that they have caught up with.
fn present(
    connection: &Connection,
    keyring: &Keyring,
    chains: &mut Chains,
    faults: &mut Faults,
) -> Result<Audit, StoreError> {
    let Chains { ledger, log, rows } = chains;
    ledger.finish(faults);
    log.finish(connection, faults)?;
    let unchecked_rows = rows.finish(connection, keyring, faults)?;
    let done = ledger.newest.max(log.newest);
    let known = log.accepted.iter().filter_map(Acknowledged::of).collect();
    let mut present = Present::read(connection, &ledger.accounts, (done, known), faults)?;
    marks(connection, ledger, faults)?;
    let open_holds = present.holds(connection, &ledger.accounts)?;
    present.judge(connection, &ledger.accounts, faults)?;
    Ok(Audit {
        accounts: present.customers,
        entries: ledger.entries,
        open_holds,
        keys: 0,
        customers_total: present.customers_total,
        ledger_total: present.total,
        head: ledger.accounts.digest(ledger.last),
        log: log.last,
        noted: Vec::new(),
        rows: rows.last,
        unchecked_rows,
        faults: Vec::new(),
    })
}

/// Every 64th posting of an account must be marked, and nothing else.
fn marks(
    connection: &Connection,
    ledger: &mut LedgerReplay,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare("SELECT account, entry FROM posting_mark ORDER BY account, entry")?;
    let stored = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let stored: Vec<(i64, i64)> = stored.collect::<Result<_, _>>()?;
    ledger.marks.sort_unstable();
    if stored == ledger.marks {
        return Ok(());
    }
    let (stored, made): (BTreeSet<_>, BTreeSet<_>) = (
        stored.into_iter().collect(),
        ledger.marks.iter().copied().collect(),
    );
    let wrong = stored.symmetric_difference(&made);
    let wrong: BTreeSet<i64> = wrong.map(|(account, _)| *account).collect();
    let mut gone = false;
    for id in wrong {
        match ledger.accounts.get(id) {
            Some(account) => faults.add(format!(
                "{}: its entries are not marked right",
                account.number
            )),
            None => gone = true,
        }
    }
    if gone {
        faults.add("an account that is not there has marked entries".to_owned());
    }
    Ok(())
}

fn fault_rows(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    what: &str,
    faults: &mut Faults,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| row.get::<_, String>(0))?;
    for name in rows {
        faults.add(format!("{}: {what}", name?));
    }
    Ok(())
}

/// A hold and its entry are written together.
fn holds(slices: &mut Slices<'_>, faults: &mut Faults) -> Result<(), StoreError> {
    slices.through("hold", |connection, after, end| {
        fault_rows(
            connection,
            "SELECT 'hold ' || name FROM hold LEFT JOIN entry ON entry.id = hold.entry \
             WHERE hold.id > ?1 AND hold.id <= ?2 AND ((state = 1) <> (captured > 0) \
             OR (state = 1) <> (entry.id IS NOT NULL) OR (state = 1 AND \
               (entry.amount <> captured OR debit <> account OR kind NOT IN (3, 4))))",
            [after, end],
            "its state and its entry do not agree",
            faults,
        )
    })
}

/// Returns how many keys there are.
fn keys(slices: &mut Slices<'_>, faults: &mut Faults) -> Result<u64, StoreError> {
    let (mut count, mut last) = (0_u64, 0);
    slices.through("request", |connection, after, end| {
        fault_rows(
            connection,
            "SELECT 'request ' || request.id FROM request LEFT JOIN entry ON entry.id = request.entry \
             LEFT JOIN hold ON hold.id = request.hold \
             WHERE request.id > ?1 AND request.id <= ?2 AND ((request.hold IS NOT NULL \
              AND hold.account IS NOT request.account) OR (request.entry IS NOT NULL AND entry.id IS NULL) \
             OR (entry.id IS NOT NULL AND request.account NOT IN (entry.debit, entry.credit)) \
             OR (request.entry IS NULL AND request.hold IS NULL))",
            [after, end],
            "its key has no entry or hold of its account",
            faults,
        )?;
        // Keys and entries are written together, and both numbers grow: nothing has to be sorted.
        let sql = "SELECT id, entry FROM request WHERE id > ?1 AND id <= ?2 ORDER BY id";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([after, end])?;
        while let Some(row) = rows.next()? {
            count = count.saturating_add(1);
            let (id, entry): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            let Some(entry) = entry else { continue };
            match entry.cmp(&last) {
                Ordering::Greater => {}
                Ordering::Equal => faults.add(format!("entry {entry}: two keys claim it")),
                Ordering::Less => {
                    faults.add(format!("request {id}: its entry is not in its order"));
                }
            }
            last = entry;
        }
        Ok(())
    })?;
    Ok(count)
}

/// What is in no chain, and has no MAC and no sum of its own.
fn others(slices: &mut Slices<'_>, faults: &mut Faults) -> Result<(), StoreError> {
    let mut peppers = BTreeSet::new();
    slices.through("account", |connection, after, end| {
        fault_rows(
            connection,
            "SELECT number FROM account WHERE id > ?1 AND id <= ?2 AND \
             (currency IS NOT (SELECT value FROM bank WHERE name = 'currency') \
             OR kind <> CASE WHEN number LIKE 'cash:%' THEN 1 WHEN number = 'opening' THEN 2 \
               WHEN number = 'adjustment' THEN 3 ELSE 0 END \
             OR (kind <> 0 AND (status <> 0 OR withdrawal_limit IS NOT NULL OR daily_limit IS NOT NULL)))",
            [after, end],
            "its currency, kind or status is not that of such an account",
            faults,
        )?;
        let sql = "SELECT DISTINCT pepper FROM account JOIN credential ON credential.account = account.id \
                   WHERE account.id > ?1 AND account.id <= ?2 AND status <> 2 \
                   AND 'pepper:' || pepper NOT IN (SELECT name FROM bank)";
        let mut statement = connection.prepare_cached(sql)?;
        let found = statement.query_map([after, end], |row| row.get::<_, String>(0))?;
        for pepper in found {
            peppers.insert(pepper?);
        }
        Ok(())
    })?;
    fault_rows(
        slices.connection,
        "SELECT 'terminal ' || name FROM terminal LEFT JOIN account ON account.id = cash \
         WHERE number IS NOT 'cash:' || name",
        [],
        "its cash account is another's",
        faults,
    )?;
    for pepper in peppers {
        faults.add(format!(
            "{pepper}: accounts stand on that pepper, and it is not among those that are needed"
        ));
    }
    Ok(())
}
