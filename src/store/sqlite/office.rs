//! What the bank's staff ask of the ledger.

use std::sync::Arc;

use rusqlite::Connection;

use super::writer::Books;
use super::{SqliteStore, backup, reports};
use crate::store::rules::opening::{MayOpen, OpenAccount};
use crate::store::rules::staff::StaffAct;
use crate::store::{Act, Context, Done, NewAccount, StoreError};

impl SqliteStore {
    /// Does one act of the staff.
    pub(super) async fn act(
        &self,
        actor: String,
        act: Act,
        context: Context,
    ) -> Result<Done, StoreError> {
        match act {
            act if act.only_reads() => {
                let keyring = self.keyring.clone();
                let read = move |connection: &Connection| {
                    reports::read(connection, &act, &context, &keyring)
                };
                self.read_apart(read).await
            }
            Act::Backup(to) => {
                let read = move |connection: &Connection| backup::copy(connection, &to);
                self.read_apart(read).await
            }
            act => {
                let seats = Arc::clone(&self.seats);
                // The writer ends the sessions, so that it is done although nobody waits for the answer.
                self.write(move |books| {
                    let done = books.office(&actor, &act, &context);
                    seats.evict_where(act.shuts_out(), &done);
                    done
                })
                .await
            }
        }
    }
}

impl Books<'_> {
    /// Acts that write, each with its record. Those that only read go to `reports`.
    pub(super) fn office(
        &mut self,
        actor: &str,
        act: &Act,
        context: &Context,
    ) -> Result<Done, StoreError> {
        let done = self.act(actor, act, context)?;
        if let Some(note) = act.note(actor, context.now) {
            self.append(&note.with_done(&done))?;
        }
        Ok(done)
    }

    fn act(&mut self, actor: &str, act: &Act, context: &Context) -> Result<Done, StoreError> {
        match act {
            Act::Open(accounts) => self.open(accounts, context),
            Act::Close(_)
            | Act::Lock(..)
            | Act::SetPin { .. }
            | Act::Limit { .. }
            | Act::Adjust { .. }
            | Act::Terminal { .. } => {
                let staff = StaffAct {
                    act,
                    actor,
                    context,
                };
                self.perform(&staff, context)
            }
            Act::MoveRows { pepper, after } => self.move_rows(pepper, *after, false),
            Act::RetirePepper(pepper) => self.retire_pepper(pepper),
            Act::MendClock(cursor) => self.mend_clock(cursor, context),
            Act::ClockTaken { .. } | Act::ClockAccepted { .. } => self.acknowledge_stamps(),
            act => self.certificate_act(act, context.now),
        }
    }

    fn open(&mut self, accounts: &[NewAccount], context: &Context) -> Result<Done, StoreError> {
        if let Some(refused) = self.perform(&MayOpen(accounts), context)? {
            return Ok(refused);
        }
        let (mut opened, mut existing) = (0_usize, Vec::new());
        for new in accounts {
            match self.perform(&OpenAccount { new, context }, context)? {
                true => opened = opened.saturating_add(1),
                false => existing.push(new.number),
            }
        }
        Ok(Done::Opened { opened, existing })
    }
}
