//! What the bank's staff ask of the ledger.

use rusqlite::params;

use super::sums;
use super::writer::Books;
use crate::access::pin::PinHash;
use crate::domain::money::{Amount, BALANCE_MAX, Opening};
use crate::domain::{AccountNumber, EntryKind, EntryNumber, Refusal, TerminalName, Timestamp};
use crate::store::rules::covered::Covered;
use crate::store::rules::postings::{Occasion, open_account, post, terminal};
use crate::store::state::{AccountRow, KIND_CUSTOMER, STATUS_CLOSED, STATUS_LOCKED};
use crate::store::{Act, Context, Done, NewAccount, Office, StoreError};

impl Books<'_> {
    /// Acts that write, each with its record. Those that only read go to `reports`.
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
                accept_row,
            } => self.reset_pin(
                (*number, hash, *one_time_until),
                *accept_row,
                actor,
                context,
            ),
            Act::Limit {
                number,
                withdrawal,
                daily,
            } => self.limit(*number, *withdrawal, *daily),
            Act::Adjust {
                number,
                amount,
                reason,
            } => self.adjust(*number, *amount, (reason, actor), context),
            Act::Terminal { name, disabled } => self.set_disabled(name, *disabled, context),
            Act::MoveRows { pepper, after } => self.move_rows(pepper, *after, false),
            Act::RetirePepper(pepper) => self.retire_pepper(pepper),
            Act::MendClock(cursor) => self.mend_clock(cursor, context),
            Act::ClockTaken { .. } | Act::ClockAccepted { .. } => self.acknowledge_stamps(),
            act => self.certificate_act(act, context.now),
        }
    }

    fn reset_pin(
        &mut self,
        (number, hash, one_time_until): (AccountNumber, &PinHash, Option<Timestamp>),
        accept_row: bool,
        actor: &str,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let Some(account) = self.customer(number)? else {
            return Ok(Done::NoSuchAccount);
        };
        if self.is_retired(&hash.pepper)? {
            return Ok(Done::retired(&hash.pepper));
        }
        let (covered, closed) = (
            Covered::Account(account.id),
            account.status == STATUS_CLOSED,
        );
        let done = match accept_row {
            true => self.accept_row(covered, number, actor, context)?,
            false if closed => return Ok(Done::Refused("the account is closed".to_owned())),
            false if !self.is_as_written(covered)? => return Ok(Done::forged()),
            false => Done::Yes,
        };
        if closed {
            self.record_row(covered)?;
        } else {
            self.set_pin(account.id, hash, one_time_until, false)?;
            self.forget_tries(number)?;
        }
        Ok(done)
    }

    fn limit(
        &mut self,
        number: AccountNumber,
        withdrawal: Option<i64>,
        daily: Option<i64>,
    ) -> Result<Done, StoreError> {
        let Some(account) = self.customer(number)? else {
            return Ok(Done::NoSuchAccount);
        };
        let negative = |limit: Option<i64>| limit.is_some_and(|limit| limit < 0);
        if negative(withdrawal) || negative(daily) {
            return Ok(Done::Refused("a limit is 0 or more".to_owned()));
        }
        let covered = Covered::Account(account.id);
        if !self.is_as_written(covered)? {
            return Ok(Done::forged());
        }
        self.forget_account(account.id)?;
        self.connection
            .prepare_cached(
                "UPDATE account SET withdrawal_limit = ?2, daily_limit = ?3 WHERE id = ?1",
            )?
            .execute(params![account.id, withdrawal, daily])?;
        self.record_row(covered)?;
        Ok(Done::Yes)
    }

    fn set_disabled(
        &mut self,
        name: &TerminalName,
        disabled: bool,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let opening = self.named("opening")?;
        self.know_terminal(name)?;
        let row = self.apply(|rows| terminal(rows, name, &opening, context.now))?;
        let covered = Covered::Terminal(row.id);
        // Putting it out is never refused, and makes the row whole again.
        if !self.is_as_written(covered)? && !disabled {
            return Ok(Done::forged_terminal());
        }
        self.connection
            .prepare_cached("UPDATE terminal SET disabled = ?2 WHERE id = ?1")?
            .execute(params![row.id, disabled])?;
        self.record_row(covered)?;
        Ok(Done::Yes)
    }

    /// Puts on record that staff take the row for the bank's own, and what it says.
    fn accept_row(
        &mut self,
        covered: Covered,
        number: AccountNumber,
        actor: &str,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let as_written = self.is_as_written(covered)?;
        // A row of one account alone, which was found just now.
        let number_is = "account.number = ?1";
        let found =
            super::reports::reports(self.connection, number_is, [number.as_str()], context)?.pop();
        let found = found.unwrap_or_default();
        self.append(&found.accepted(actor, number, as_written, context.now))?;
        Ok(Done::Account(Box::new(found)))
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
            let what = (KIND_CUSTOMER, new.number.as_str());
            let mut account = self.apply(|rows| open_account(rows, what, &opening, context.now))?;
            self.set_pin(account.id, &new.hash, None, new.demo)?;
            for part in Opening::new(new.balance)
                .into_iter()
                .flat_map(Opening::parts)
            {
                let sides = (&mut opening, &mut account);
                self.post_by_staff(EntryKind::Opening, part, sides, context.now)?;
            }
            opened = opened.saturating_add(1);
        }
        Ok(Done::Opened { opened, existing })
    }

    fn post_by_staff(
        &mut self,
        kind: EntryKind,
        amount: Amount,
        sides: (&mut AccountRow, &mut AccountRow),
        at: Timestamp,
    ) -> Result<EntryNumber, StoreError> {
        let terminal = None;
        self.apply(|rows| post(rows, amount, sides, &Occasion { kind, terminal, at }))
    }

    fn close(&mut self, number: AccountNumber, context: &Context) -> Result<Done, StoreError> {
        let Some(mut account) = self.customer(number)? else {
            return Ok(Done::NoSuchAccount);
        };
        let refused = |why: &str| Ok(Done::Refused(why.to_owned()));
        if account.status == STATUS_CLOSED {
            return refused("the account is closed already");
        }
        if !self.is_as_written(Covered::Account(account.id))? {
            return Ok(Done::forged());
        }
        self.expire_due(&mut account, context.now)?;
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
        let open = account.as_ref();
        let open = open.filter(|account| account.status != STATUS_CLOSED);
        if let Some(account) = open
            && !self.is_as_written(Covered::Account(account.id))?
        {
            return Ok(Done::forged());
        }
        let open = open.is_some();
        if !locked {
            // Numbers without an account, or of a closed one, may be locked by tries too.
            let had_tries = self.tries(number)?.is_some();
            self.forget_tries(number)?;
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
        self.record_row(Covered::Account(account.id))
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
        let sides = match signed > 0 {
            true => (&mut other, &mut account),
            false => (&mut account, &mut other),
        };
        let entry = self.post_by_staff(EntryKind::Adjustment, amount, sides, context.now)?;
        self.connection
            .prepare_cached("INSERT INTO reason (entry, text, actor) VALUES (?1, ?2, ?3)")?
            .execute(params![entry.get(), reason, actor])?;
        sums::renew(self.connection, sums::REASON, entry.get())?;
        Ok(Done::Posted {
            entry: entry.get(),
            balance: account.balance,
        })
    }
}

/// The name staff act under, for a reason's row.
pub(super) fn actor_of(office: &Office) -> String {
    office.actor().to_owned()
}
