//! What the bank's staff look up.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::access::read_tries;
use super::postings;
use super::slices::Slices;
use crate::access::row_mac::Keyring;
use crate::domain::{AccountNumber, TerminalName, Timestamp};
use crate::store::state::{STATUS_CLOSED, STATUS_LOCKED};
use crate::store::{AccountReport, Act, Context, Done, StoreError, TerminalReport, Terms};

/// Acts that only read, on a connection of their own, so that they hold no customer up.
pub(super) fn read(
    connection: &Connection,
    act: &Act,
    context: &Context,
    keyring: &Keyring,
) -> Result<Done, StoreError> {
    match act {
        Act::Show(number) => {
            let report = reports(
                connection,
                "account.number = ?1",
                params![number.as_str()],
                context,
            )?
            .pop();
            Ok(report.map_or(Done::NoSuchAccount, |report| {
                Done::Account(Box::new(report))
            }))
        }
        Act::List { after, limit } => {
            let after = after.map_or_else(String::new, |number| number.to_string());
            let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
            let condition = "account.number > ?1 ORDER BY account.number LIMIT ?2";
            Ok(Done::Accounts(reports(
                connection,
                condition,
                params![after, limit],
                context,
            )?))
        }
        Act::Statement {
            number,
            after,
            from,
            to,
            limit,
        } => statement(connection, *number, *after, (*from, *to), *limit),
        Act::LateCaptures { limit } => postings::late_captures(connection, *limit),
        Act::Terminals => terminals(connection),
        Act::Invitations => super::enrolment::invitations(connection, context.now),
        Act::RevokedCertificates => super::enrolment::revoked(connection, context.now),
        Act::Records(asked) => super::records::list(connection, asked),
        Act::Peppers => super::peppers::uses(connection),
        Act::DemoAccounts => {
            let sql = "SELECT count(*) FROM credential WHERE demo = 1";
            Ok(Done::Count(
                connection.query_row(sql, [], |row| row.get(0))?,
            ))
        }
        Act::Verify(head) => Ok(Done::Audit(Box::new(super::audit::audit(
            &mut Slices::begin(connection)?,
            keyring,
            *head,
            context.now,
        )?))),
        Act::ClockEffects(wall) => super::clock::effects(connection, *wall, context),
        _ => Err(StoreError::Unsupported),
    }
}

fn statement(
    connection: &Connection,
    number: AccountNumber,
    after: i64,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    limit: usize,
) -> Result<Done, StoreError> {
    let known = connection
        .prepare_cached("SELECT id FROM account WHERE number = ?1 AND kind = 0")?
        .query_row([number.as_str()], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(account) = known else {
        return Ok(Done::NoSuchAccount);
    };
    let wanted = |at| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to);
    let lines = postings::oldest_first(connection, account, after, wanted, limit)?;
    Ok(Done::Lines(lines))
}

pub(super) fn reports(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
    context: &Context,
) -> Result<Vec<AccountReport>, StoreError> {
    let sql = format!(
        "SELECT account.number, account.status, account.currency, account.balance, \
         account.balance - account.held + coalesce((SELECT sum(amount) FROM hold \
           WHERE hold.account = account.id AND state = 0 AND expires_at <= {now}), 0), \
         account.withdrawal_limit, account.daily_limit, \
         coalesce(credential.must_change, 0), coalesce(credential.demo, 0), credential.home, try.number, \
         try.home_terminal, try.home, try.home_at, try.other, try.other_at \
         FROM account LEFT JOIN credential ON credential.account = account.id \
         LEFT JOIN try ON try.number = account.number WHERE account.kind = 0 AND {condition}",
        now = context.now.unix_ms()
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(parameters, |row| {
        read_report(row, &context.terms, context.now)
    })?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?)
}

fn read_report(row: &Row<'_>, terms: &Terms, now: Timestamp) -> rusqlite::Result<AccountReport> {
    let tries = match row.get_ref(10)? {
        ValueRef::Null => None,
        _ => Some(read_tries(row, 11)?),
    };
    let status = match row.get::<_, i64>(1)? {
        STATUS_LOCKED => "locked",
        STATUS_CLOSED => "closed",
        _ => "open",
    };
    let report = AccountReport {
        account: row.get(0)?,
        status: status.to_owned(),
        currency: row.get(2)?,
        balance: row.get(3)?,
        available: row.get(4)?,
        withdrawal_limit: row.get(5)?,
        daily_withdrawal_limit: row.get(6)?,
        must_change_pin: row.get(7)?,
        demo: row.get(8)?,
        home_terminal: row.get(9)?,
        ..AccountReport::default()
    };
    Ok(report.with_tries(tries, terms.lockout, now))
}

fn terminals(connection: &Connection) -> Result<Done, StoreError> {
    let mut statement = connection.prepare(
        "SELECT terminal.name, terminal.disabled, account.balance FROM terminal \
         JOIN account ON account.id = terminal.cash \
         UNION ALL SELECT DISTINCT terminal, 0, 0 FROM certificate \
         WHERE terminal NOT IN (SELECT name FROM terminal) ORDER BY 1",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(TerminalReport {
            terminal: row.get(0)?,
            disabled: row.get(1)?,
            cash: row.get(2)?,
            ..TerminalReport::default()
        })
    })?;
    Ok(Done::Terminals(rows.collect::<Result<Vec<_>, _>>()?))
}

/// Names of terminals that are not let in.
pub(super) fn disabled_terminals(connection: &Connection) -> Result<Vec<TerminalName>, StoreError> {
    let mut statement = connection.prepare("SELECT name FROM terminal WHERE disabled = 1")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect())
}
