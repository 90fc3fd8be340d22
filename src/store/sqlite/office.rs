//! What the bank's staff ask of the ledger.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::access::read_tries;
use super::accounts::{AccountRow, STATUS_CLOSED, STATUS_LOCKED};
use super::postings;
use super::writer::Books;
use crate::domain::money::{BALANCE_MAX, Opening};
use crate::domain::policy::Movement;
use crate::domain::{AccountNumber, EntryKind, Refusal, TerminalName, Timestamp};
use crate::store::{
    AccountReport, Act, Context, Done, NewAccount, Office, StoreError, TerminalReport, Terms,
};

impl Books<'_> {
    /// Acts that write, each with its record. Those that only read go to [`read`].
    pub(super) fn office(
        &mut self,
        actor: &str,
        act: &Act,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let done = self.perform(actor, act, context)?;
        if let Some(note) = act.note(actor, context.now) {
            self.append(&note.with_done(&done))?;
        }
        Ok(done)
    }

    fn perform(&mut self, actor: &str, act: &Act, context: &Context) -> Result<Done, StoreError> {
        match act {
            Act::Open(accounts) => self.open(accounts, context),
            Act::Close(number) => self.close(*number, context),
            Act::Lock(number, locked) => self.lock(*number, *locked),
            Act::SetPin {
                number,
                hash,
                one_time_until,
            } => {
                let Some(account) = self.customer(*number)? else {
                    return Ok(Done::NoSuchAccount);
                };
                if account.status == STATUS_CLOSED {
                    return Ok(Done::Refused("the account is closed".to_owned()));
                }
                if self.is_retired(&hash.pepper)? {
                    return Ok(Done::retired(&hash.pepper));
                }
                self.set_pin(account.id, hash, *one_time_until, false)?;
                self.forget_tries(*number)?;
                Ok(Done::Yes)
            }
            Act::Limit {
                number,
                withdrawal,
                daily,
            } => {
                let Some(account) = self.customer(*number)? else {
                    return Ok(Done::NoSuchAccount);
                };
                let negative = |limit: &Option<i64>| limit.is_some_and(|limit| limit < 0);
                if negative(withdrawal) || negative(daily) {
                    return Ok(Done::Refused("a limit is 0 or more".to_owned()));
                }
                self.forget_account(account.id)?;
                self.connection
                    .prepare_cached(
                        "UPDATE account SET withdrawal_limit = ?2, daily_limit = ?3 WHERE id = ?1",
                    )?
                    .execute(params![account.id, withdrawal, daily])?;
                Ok(Done::Yes)
            }
            Act::Adjust {
                number,
                amount,
                reason,
            } => self.adjust(*number, *amount, (reason, actor), context),
            Act::Terminal { name, disabled } => {
                let currency = self.named("opening")?.currency;
                let row = self.terminal(name, &currency, context.now)?;
                self.connection
                    .prepare_cached("UPDATE terminal SET disabled = ?2 WHERE id = ?1")?
                    .execute(params![row.id, disabled])?;
                Ok(Done::Yes)
            }
            Act::RetirePepper(pepper) => self.retire_pepper(pepper),
            Act::MendClock(cursor) => self.mend_clock(*cursor, context),
            Act::ClockAccepted { .. } => self.acknowledge_stamps(),
            act => self.certificate_act(act, context.now),
        }
    }

    fn open(&mut self, accounts: &[NewAccount], context: &Context) -> Result<Done, StoreError> {
        let out_of_range = |new: &NewAccount| !(0..=BALANCE_MAX).contains(&new.balance);
        if accounts.iter().any(out_of_range) {
            let why = "an opening balance is out of range";
            return Ok(Done::Refused(why.to_owned()));
        }
        for new in accounts {
            if self.is_retired(&new.hash.pepper)? {
                return Ok(Done::retired(&new.hash.pepper));
            }
        }
        let mut opening = self.named("opening")?;
        let left = |rest: i64, new: &NewAccount| rest.checked_sub(new.balance);
        if accounts.iter().try_fold(opening.balance, left).is_none() {
            let why = "the opening balances together are out of range";
            return Ok(Done::Refused(why.to_owned()));
        }
        let (mut opened, mut existing) = (0_usize, Vec::new());
        for new in accounts {
            if self.customer(new.number)?.is_some() {
                existing.push(new.number);
                continue;
            }
            self.connection
                .prepare_cached(
                    "INSERT INTO account (number, kind, currency, head, opened_at) \
                     VALUES (?1, 0, ?2, zeroblob(32), ?3)",
                )?
                .execute(params![
                    new.number.as_str(),
                    &*opening.currency,
                    context.now.unix_ms()
                ])?;
            let id = self.connection.last_insert_rowid();
            self.set_pin(id, &new.hash, None, new.demo)?;
            self.post_opening(&mut opening, id, new.balance, context)?;
            opened = opened.saturating_add(1);
        }
        Ok(Done::Opened { opened, existing })
    }

    fn post_opening(
        &mut self,
        opening: &mut AccountRow,
        id: i64,
        balance: i64,
        context: &Context,
    ) -> Result<(), StoreError> {
        let Some(balance) = Opening::new(balance) else {
            return Ok(());
        };
        let broken = || StoreError::Broken("an opening of the opening account".to_owned());
        let mut account = self.account(id)?;
        for part in balance.parts() {
            let movement = Movement::new(EntryKind::Opening, opening.id, id, part);
            let movement = movement.ok_or_else(broken)?;
            self.post(&movement, opening, &mut account, None, context.now)?;
        }
        Ok(())
    }

    fn close(&mut self, number: AccountNumber, context: &Context) -> Result<Done, StoreError> {
        let Some(mut account) = self.customer(number)? else {
            return Ok(Done::NoSuchAccount);
        };
        self.expire_due(&mut account, context.now)?;
        let refused = |why: &str| Ok(Done::Refused(why.to_owned()));
        if account.status == STATUS_CLOSED {
            return refused("the account is closed already");
        }
        if account.balance != 0 {
            return refused("the account's balance is not 0");
        }
        if account.held != 0 {
            return refused("the account has open holds");
        }
        if self.has_late_holds(account.id, context.now)? {
            return refused("the account has holds that can still be captured late");
        }
        self.set_status(&account, STATUS_CLOSED)?;
        Ok(Done::Yes)
    }

    fn lock(&mut self, number: AccountNumber, locked: bool) -> Result<Done, StoreError> {
        let account = self.customer(number)?;
        if !locked {
            // Numbers without an account, or of a closed one, may be locked by tries too.
            let had_tries = self.tries(number)?.is_some();
            self.forget_tries(number)?;
            let open = account
                .as_ref()
                .is_some_and(|account| account.status != STATUS_CLOSED);
            if had_tries && !open {
                return Ok(Done::Yes);
            }
        }
        let Some(account) = account else {
            return Ok(Done::NoSuchAccount);
        };
        if account.status == STATUS_CLOSED {
            return Ok(Done::Refused("the account is closed".to_owned()));
        }
        self.set_status(&account, if locked { STATUS_LOCKED } else { 0 })?;
        Ok(Done::Yes)
    }

    fn set_status(&mut self, account: &AccountRow, status: i64) -> Result<(), StoreError> {
        self.forget_account(account.id)?;
        self.connection
            .prepare_cached("UPDATE account SET status = ?2 WHERE id = ?1")?
            .execute(params![account.id, status])?;
        Ok(())
    }

    fn adjust(
        &mut self,
        number: AccountNumber,
        signed: i64,
        (reason, actor): (&str, &str),
        context: &Context,
    ) -> Result<Done, StoreError> {
        let Some(mut account) = self.customer(number)? else {
            return Ok(Done::NoSuchAccount);
        };
        if account.status == STATUS_CLOSED {
            return Ok(Done::Refused("the account is closed".to_owned()));
        }
        self.expire_due(&mut account, context.now)?;
        let amount = match account.standing(&context.terms, context.now).adjust(signed) {
            Ok(amount) => amount,
            Err(Refusal::InsufficientFunds) => {
                return Ok(Done::Refused("the account has less available".to_owned()));
            }
            Err(_) => return Ok(Done::Refused("the amount is out of range".to_owned())),
        };
        let mut other = self.named("adjustment")?;
        let broken = || StoreError::Broken("an adjustment of the adjustment account".to_owned());
        let entry = if signed > 0 {
            let movement = Movement::new(EntryKind::Adjustment, other.id, account.id, amount);
            self.post(
                &movement.ok_or_else(broken)?,
                &mut other,
                &mut account,
                None,
                context.now,
            )?
        } else {
            let movement = Movement::new(EntryKind::Adjustment, account.id, other.id, amount);
            self.post(
                &movement.ok_or_else(broken)?,
                &mut account,
                &mut other,
                None,
                context.now,
            )?
        };
        self.connection
            .prepare_cached("INSERT INTO reason (entry, text, actor) VALUES (?1, ?2, ?3)")?
            .execute(params![entry.get(), reason, actor])?;
        Ok(Done::Posted {
            entry: entry.get(),
            balance: account.balance,
        })
    }
}

/// Acts that only read, on a connection of their own, so that they hold no customer up.
pub(super) fn read(
    connection: &Connection,
    act: &Act,
    context: &Context,
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
        Act::LateCaptures { limit } => late_captures(connection, *limit),
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
            connection,
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

fn reports(
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
         credential.must_change, credential.demo, credential.home, try.number, \
         try.home_terminal, try.home, try.home_at, try.other, try.other_at \
         FROM account JOIN credential ON credential.account = account.id \
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
         JOIN account ON account.id = terminal.cash ORDER BY terminal.name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(TerminalReport {
            terminal: row.get(0)?,
            disabled: row.get(1)?,
            cash: row.get(2)?,
        })
    })?;
    Ok(Done::Terminals(rows.collect::<Result<Vec<_>, _>>()?))
}

fn late_captures(connection: &Connection, limit: usize) -> Result<Done, StoreError> {
    // The customer whose account it was stands where the counterparty would.
    let mut statement = connection.prepare(
        "SELECT entry.id, entry.at, entry.kind, -entry.amount, entry.debit_balance, \
         coalesce(terminal.name, ''), own.kind, own.number, NULL FROM entry \
         JOIN account own ON own.id = entry.debit LEFT JOIN terminal ON terminal.id = entry.terminal \
         WHERE entry.kind = 4 ORDER BY entry.id DESC LIMIT ?1",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map([limit], postings::read_line)?;
    Ok(Done::Lines(rows.collect::<Result<Vec<_>, _>>()?))
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

/// The name staff act under, for a reason's row.
pub(super) fn actor_of(office: &Office) -> String {
    office.actor().to_owned()
}
