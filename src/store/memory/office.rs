//! What the bank's staff ask.

use std::collections::BTreeMap;

use super::books::{ADJUSTMENT, Books, Customer, OPENING, Posting, Status, cash_of};
use crate::access::pin::{PinHash, StoredPin};
use crate::domain::entry::ChainHash;
use crate::domain::hold::{HoldState, LATE_CAPTURE_MS};
use crate::domain::money::{BALANCE_MAX, Opening};
use crate::domain::{AccountNumber, AuditRecord, EntryKind, Refusal, TerminalName, Timestamp};
use crate::store::{
    AccountReport, Act, Context, Done, Line, NewAccount, RecordsAsked, StoreError, TerminalReport,
};

fn refused(why: &str) -> Done {
    Done::Refused(why.to_owned())
}

impl Books {
    pub(super) fn office(
        &mut self,
        actor: &str,
        act: Act,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let note = act.note(actor, context.now);
        let done = self.perform(actor, act, context)?;
        if let Some(note) = note {
            self.append(&note.with_done(&done));
        }
        Ok(done)
    }

    fn perform(&mut self, actor: &str, act: Act, context: &Context) -> Result<Done, StoreError> {
        Ok(match act {
            Act::Open(accounts) => self.open(accounts, context)?,
            Act::Close(number) => self.close(number, context),
            Act::Lock(number, true) => self.lock(number),
            Act::Lock(number, false) => self.unlock(number),
            Act::SetPin {
                number,
                hash,
                one_time_until,
                accept_row,
            } => self.set_pin((number, hash, one_time_until), accept_row, actor, context),
            // Nothing here is covered with a pepper.
            Act::MoveRows { .. } => Done::Count(0),
            Act::RetirePepper(pepper) => self.retire_pepper(&pepper),
            Act::Limit {
                number,
                withdrawal,
                daily,
            } => self.limit(number, withdrawal, daily),
            Act::Adjust {
                number,
                amount,
                reason,
            } => self.adjust(number, amount, reason, context)?,
            Act::Terminal { name, disabled } => {
                self.meet_terminal(&name);
                self.record_row(name.as_str());
                self.terminals.insert(name, disabled);
                Done::Yes
            }
            Act::Invite {
                name,
                code,
                expires_at,
            } => self.invite(name, code, expires_at, context.now),
            Act::Uninvite(name) => self.uninvite(&name, context.now),
            Act::UninviteAll => self.uninvite_all(),
            Act::RevokeCertificates(name) => self.revoke_certificates(&name, context.now),
            Act::Verify(before) => Done::Audit(Box::new(self.audit(before))),
            Act::Backup(_) => return Err(StoreError::Unsupported),
            act => self.look_up(act, context)?,
        })
    }

    fn set_pin(
        &mut self,
        (number, hash, one_time_until): (AccountNumber, PinHash, Option<Timestamp>),
        accept_row: bool,
        actor: &str,
        context: &Context,
    ) -> Done {
        let Some(customer) = self.customers.get(&number) else {
            return Done::NoSuchAccount;
        };
        if self.is_retired(&hash.pepper) {
            return Done::retired(&hash.pepper);
        }
        let closed = customer.status == Status::Closed;
        if closed && !accept_row {
            return refused("the account is closed");
        }
        let found = accept_row.then(|| self.report(number, customer, context));
        if let Some(found) = &found {
            self.append(&found.accepted(actor, number, true, context.now));
        }
        if !closed {
            self.know_pepper(&hash.pepper);
            if let Some(customer) = self.customers.get_mut(&number) {
                customer.set_pin(hash, one_time_until);
            }
            self.tries.remove(&number);
        }
        self.record_row(number.as_str());
        found.map_or(Done::Yes, |found| Done::Account(Box::new(found)))
    }

    /// Acts that only read.
    fn look_up(&self, act: Act, context: &Context) -> Result<Done, StoreError> {
        Ok(match act {
            Act::Show(number) => match self.customers.get(&number) {
                Some(customer) => Done::Account(Box::new(self.report(number, customer, context))),
                None => Done::NoSuchAccount,
            },
            Act::List { after, limit } => {
                let customers = self.customers.iter();
                let behind = customers.filter(|(number, _)| Some(**number) > after);
                let reports = behind.map(|(number, who)| self.report(*number, who, context));
                Done::Accounts(reports.take(limit).collect())
            }
            Act::Statement {
                number,
                after,
                from,
                to,
                limit,
            } => {
                if !self.customers.contains_key(&number) {
                    return Ok(Done::NoSuchAccount);
                }
                let wanted = |line: &Line| {
                    line.entry > after
                        && from.is_none_or(|from| from <= line.at)
                        && to.is_none_or(|to| line.at < to)
                };
                let lines = self.lines(number).into_iter().filter(wanted);
                Done::Lines(lines.take(limit).collect())
            }
            Act::LateCaptures { limit } => {
                let entries = self.entries.iter().enumerate().rev();
                let late = entries.filter(|(_, entry)| entry.kind == EntryKind::LateWithdrawal);
                let lines = late.filter_map(|(index, entry)| {
                    // The customer whose account it was stands where the counterparty would.
                    let line = self.line(index, &entry.debit.account)?;
                    Some(Line {
                        counterparty: entry.debit.account.parse().ok(),
                        ..line
                    })
                });
                Done::Lines(lines.take(limit).collect())
            }
            Act::Invitations => self.invitations(context.now),
            Act::RevokedCertificates => self.revoked_certificates(context.now),
            Act::Terminals => Done::Terminals(self.terminals()),
            Act::Records(asked) => Done::Records(self.listed_records(&asked)),
            Act::Peppers => self.pepper_uses(),
            Act::DemoAccounts => {
                let demo = self.customers.values().filter(|customer| customer.demo);
                Done::Count(u64::try_from(demo.count()).unwrap_or(u64::MAX))
            }
            _ => return Err(StoreError::Unsupported),
        })
    }

    fn open(&mut self, accounts: Vec<NewAccount>, context: &Context) -> Result<Done, StoreError> {
        let out_of_range = |new: &NewAccount| !(0..=BALANCE_MAX).contains(&new.balance);
        if accounts.iter().any(out_of_range) {
            return Ok(refused("an opening balance is out of range"));
        }
        let retired = |new: &&NewAccount| self.is_retired(&new.hash.pepper);
        if let Some(new) = accounts.iter().find(retired) {
            return Ok(Done::retired(&new.hash.pepper));
        }
        let left = |rest: i64, new: &NewAccount| rest.checked_sub(new.balance);
        if accounts
            .iter()
            .try_fold(self.balance_of(OPENING), left)
            .is_none()
        {
            return Ok(refused("the opening balances together are out of range"));
        }
        let (mut opened, mut existing) = (0, Vec::new());
        for new in accounts {
            if self.customers.contains_key(&new.number) {
                existing.push(new.number);
                continue;
            }
            self.begin_account(new.number.as_str());
            if let Some(balance) = Opening::new(new.balance) {
                for amount in balance.parts() {
                    self.post(&Posting {
                        kind: EntryKind::Opening,
                        debit: OPENING,
                        credit: new.number.as_str(),
                        amount,
                        terminal: None,
                        at: context.now,
                    })?;
                }
            }
            self.know_pepper(&new.hash.pepper);
            let customer = Customer {
                status: Status::Open,
                day: 0,
                withdrawal_limit: None,
                daily_limit: None,
                pin: StoredPin {
                    hash: new.hash,
                    revision: 1,
                },
                must_change_pin: false,
                pin_ends_at: None,
                demo: new.demo,
                home: None,
                holds: Vec::new(),
            };
            self.customers.insert(new.number, customer);
            self.record_row(new.number.as_str());
            opened += 1;
        }
        Ok(Done::Opened { opened, existing })
    }

    fn close(&mut self, number: AccountNumber, context: &Context) -> Done {
        self.expire_due(number, context.now);
        let has = |state: HoldState| {
            let mut holds = self.holds_of(number);
            holds.any(|held| {
                let over = held.hold.expires_at.plus_ms(LATE_CAPTURE_MS) <= context.now;
                held.hold.state == state && (state == HoldState::Open || !over)
            })
        };
        let (open, late) = (has(HoldState::Open), has(HoldState::Expired));
        let balance = self.balance_of(number.as_str());
        match self.customers.get_mut(&number) {
            None => Done::NoSuchAccount,
            Some(customer) if customer.status == Status::Closed => {
                refused("the account is closed already")
            }
            Some(_) if balance != 0 => refused("the account's balance is not 0"),
            Some(_) if open => refused("the account has open holds"),
            Some(_) if late => refused("the account has holds that can still be captured late"),
            Some(customer) => {
                customer.status = Status::Closed;
                self.record_row(number.as_str());
                Done::Yes
            }
        }
    }

    fn lock(&mut self, number: AccountNumber) -> Done {
        match self.customers.get_mut(&number) {
            None => Done::NoSuchAccount,
            Some(customer) if customer.status == Status::Closed => refused("the account is closed"),
            Some(customer) => {
                customer.status = Status::Locked;
                self.record_row(number.as_str());
                Done::Yes
            }
        }
    }

    /// Numbers without an account, or of a closed one, may be locked by tries too.
    fn unlock(&mut self, number: AccountNumber) -> Done {
        let had_tries = self.tries.remove(&number).is_some();
        match self.customers.get_mut(&number) {
            None if had_tries => Done::Yes,
            None => Done::NoSuchAccount,
            Some(customer) if customer.status == Status::Closed && had_tries => Done::Yes,
            Some(customer) if customer.status == Status::Closed => refused("the account is closed"),
            Some(customer) => {
                customer.status = Status::Open;
                self.record_row(number.as_str());
                Done::Yes
            }
        }
    }

    fn limit(
        &mut self,
        number: AccountNumber,
        withdrawal: Option<i64>,
        daily: Option<i64>,
    ) -> Done {
        let negative = |limit: Option<i64>| limit.is_some_and(|limit| limit < 0);
        match self.customers.get_mut(&number) {
            None => Done::NoSuchAccount,
            Some(_) if negative(withdrawal) || negative(daily) => refused("a limit is 0 or more"),
            Some(customer) => {
                customer.withdrawal_limit = withdrawal;
                customer.daily_limit = daily;
                self.record_row(number.as_str());
                Done::Yes
            }
        }
    }

    fn adjust(
        &mut self,
        number: AccountNumber,
        signed: i64,
        reason: String,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let Some(customer) = self.customers.get(&number) else {
            return Ok(Done::NoSuchAccount);
        };
        if customer.status == Status::Closed {
            return Ok(refused("the account is closed"));
        }
        self.expire_due(number, context.now);
        let standing = self.standing(number, &context.terms, context.now);
        let Some(standing) = standing else {
            return Ok(Done::NoSuchAccount);
        };
        let amount = match standing.adjust(signed) {
            Ok(amount) => amount,
            Err(Refusal::InsufficientFunds) => {
                return Ok(refused("the account has less available"));
            }
            Err(_) => return Ok(refused("the amount is out of range")),
        };
        let (debit, credit) = if signed < 0 {
            (number.as_str(), ADJUSTMENT)
        } else {
            (ADJUSTMENT, number.as_str())
        };
        let entry = self.post(&Posting {
            kind: EntryKind::Adjustment,
            debit,
            credit,
            amount,
            terminal: None,
            at: context.now,
        })?;
        if let Some(last) = self.entries.last_mut() {
            last.reason = Some(reason);
        }
        self.use_account(number, context.now);
        let balance = self.balance_of(number.as_str());
        Ok(Done::Posted { entry, balance })
    }

    fn report(
        &self,
        number: AccountNumber,
        customer: &Customer,
        context: &Context,
    ) -> AccountReport {
        let money = self.balances_at(number, context.now);
        let status = match customer.status {
            Status::Open => "open",
            Status::Locked => "locked",
            Status::Closed => "closed",
        };
        let report = AccountReport {
            account: number.to_string(),
            status: status.to_owned(),
            currency: self.currency.code().to_owned(),
            balance: money.balance,
            available: money.available,
            withdrawal_limit: customer.withdrawal_limit,
            daily_withdrawal_limit: customer.daily_limit,
            must_change_pin: customer.must_change_pin,
            demo: customer.demo,
            home_terminal: customer.home.as_ref().map(ToString::to_string),
            ..AccountReport::default()
        };
        let record = self.tries.get(&number).map(|tries| tries.record.clone());
        report.with_tries(record, context.terms.lockout, context.now)
    }

    fn listed_records(&self, asked: &RecordsAsked) -> Vec<(AuditRecord, ChainHash)> {
        let is_asked = |asked: &Option<String>, found: Option<&String>| {
            asked.is_none() || asked.as_ref() == found
        };
        let mut wanted: Vec<_> = self.records.clone();
        wanted.retain(|(record, _)| {
            record.number > asked.after
                && asked.from.is_none_or(|from| from <= record.at)
                && asked.to.is_none_or(|to| record.at < to)
                && is_asked(&asked.event, Some(&record.event))
                && is_asked(&asked.terminal, record.terminal.as_ref())
        });
        if asked.newest {
            let before = wanted.len().saturating_sub(asked.limit);
            return wanted.split_off(before);
        }
        wanted.truncate(asked.limit);
        wanted
    }

    fn terminals(&self) -> Vec<TerminalReport> {
        let enrolled = self.enrolled().map(|name| (name, false));
        let mut known: BTreeMap<&TerminalName, bool> = enrolled.collect();
        known.extend(
            self.terminals
                .iter()
                .map(|(name, disabled)| (name, *disabled)),
        );
        let report = |(name, disabled): (&TerminalName, bool)| TerminalReport {
            terminal: name.to_string(),
            disabled,
            cash: self.balance_of(&cash_of(name)),
            ..TerminalReport::default()
        };
        known.into_iter().map(report).collect()
    }
}
