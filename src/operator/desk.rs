//! Where commands are performed.

mod peppers;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::accounts_file::{TOO_MUCH, is_too_much};
use super::{Command, HashText, OpenAccount, Report};
use crate::access::pepper_file::PepperFile;
use crate::access::pin::PinHash;
use crate::bank::Bank;
use crate::domain::{AccountNumber, Currency, TerminalName, Timestamp, printable};
use crate::limits;
use crate::store::{
    Act, Digest, Done, Event, IssuedRecord, NewAccount, Note, Office, RecordsAsked,
};

/// sysexits' EX_DATAERR: what was given is wrong, or the rules refuse it.
pub(super) const REFUSED: u8 = 65;
/// sysexits' EX_UNAVAILABLE.
const UNAVAILABLE: u8 = 69;

/// The room where customers stand: a running server's, to put a terminal out at once.
pub trait Floor: Send + Sync {
    /// Lets a terminal in, or puts it out.
    fn set_disabled(&self, terminal: &TerminalName, disabled: bool);

    /// Puts these certificates, of a terminal that enrolled itself, on the list of revoked ones, and
    /// ends the terminal's connections. Waits for the disk.
    ///
    /// # Errors
    /// Why the list could not be written, in words for staff.
    fn revoke(&self, terminal: &TerminalName, revoked: &[IssuedRecord]) -> Result<(), String>;

    /// Terminals that connected since it was opened, each with its connections now and the moment of
    /// the last one.
    fn connected(&self) -> BTreeMap<TerminalName, (usize, Timestamp)> {
        BTreeMap::new()
    }

    /// Whether customers stand there, who must not be kept waiting.
    fn is_open(&self) -> bool;

    /// What of the server's own (certificates, lists of revoked ones) would end between two moments, in
    /// words; `None` where that is not known.
    fn ends_between(&self, _now: Timestamp, _then: Timestamp) -> Option<Vec<String>> {
        None
    }

    /// Whether it listens beyond loopback: then no account with a public PIN may be opened.
    fn serves_others_than_this_machine(&self) -> bool;
}

/// No server runs: there is nobody to put out.
#[derive(Debug, Clone, Copy)]
pub struct NoFloor;

impl Floor for NoFloor {
    fn set_disabled(&self, _: &TerminalName, _: bool) {}

    fn revoke(&self, _: &TerminalName, _: &[IssuedRecord]) -> Result<(), String> {
        Err("there is no issuing authority here".to_owned())
    }

    fn is_open(&self) -> bool {
        false
    }

    fn serves_others_than_this_machine(&self) -> bool {
        false
    }
}

/// Performs staff's commands on a bank.
pub struct Desk {
    pub(super) bank: Arc<Bank>,
    pub(super) floor: Arc<dyn Floor>,
    /// Held while a terminal is let in or put out, so that store and floor agree.
    pub(super) terminals: tokio::sync::Mutex<()>,
    pepper_file: Option<Arc<PepperFile>>,
}

pub(super) type Performed = Result<Report, Report>;

impl Desk {
    /// A desk of `bank`.
    #[must_use]
    pub fn new(bank: Arc<Bank>, floor: Arc<dyn Floor>) -> Self {
        let terminals = tokio::sync::Mutex::default();
        Self {
            bank,
            floor,
            terminals,
            pepper_file: None,
        }
    }

    /// With the file that the bank's peppers stand in, so that they can be rotated.
    #[must_use]
    pub fn with_pepper_file(self, file: Arc<PepperFile>) -> Self {
        let pepper_file = Some(file);
        Self {
            pepper_file,
            ..self
        }
    }

    /// Performs one command for `actor`.
    pub async fn perform(&self, actor: &str, command: Command) -> Report {
        let office = Office::of(actor);
        let name = command.name();
        let note = self.note_of(actor, &command);
        let report = self
            .dispatch(&office, command)
            .await
            .unwrap_or_else(|report| report);
        if let Some(note) = note {
            self.note(note, report.exit_code).await;
        }
        tracing::info!(
            actor,
            command = name,
            exit_code = report.exit_code,
            "operator"
        );
        report
    }

    /// How a command that changes no books reads in the audit log. Acts that do are recorded with
    /// the change itself.
    fn note_of(&self, actor: &str, command: &Command) -> Option<Note> {
        let at = self.bank.surroundings().now();
        let note = |event| Note::new(event, at).by_staff(actor);
        let account = |text: &str| text.parse::<AccountNumber>().ok();
        Some(match command {
            Command::Verify { .. } => note(Event::Verify),
            Command::Backup { wanted, .. } => {
                note(Event::Backup).detail(wanted.display().to_string())
            }
            Command::EndSession { account: number } => Note {
                account: account(number),
                ..note(Event::SessionEnded)
            },
            Command::RotatePepper => note(Event::PepperRotated),
            Command::RetirePepper { pepper } => note(Event::PepperRetired).detail(pepper.as_str()),
            // The first page stands for all: who copies the log does not make it longer by that.
            Command::Audit { after, .. } if *after > 0 => return None,
            Command::Show { account: number }
            | Command::Statement {
                account: number, ..
            } => Note {
                account: account(number),
                ..note(Event::StaffRead).detail(command.name())
            },
            Command::List { .. }
            | Command::Sessions
            | Command::Terminals
            | Command::LateCaptures { .. }
            | Command::Invitations
            | Command::Clock
            | Command::Peppers
            | Command::Audit { .. } => note(Event::StaffRead).detail(command.name()),
            _ => return None,
        })
    }

    /// Looking goes on where nothing can be written, on a full disk say: staff need it then.
    async fn note(&self, note: Note, exit_code: u8) {
        let outcome = match exit_code {
            0 => "done",
            1 => "faults",
            REFUSED => "refused",
            _ => "failed",
        };
        if let Err(error) = self.bank.note(note.outcome(outcome)).await {
            tracing::warn!(%error, "an audit record was not written");
        }
    }

    /// Another user stood before the operator's socket.
    pub(super) async fn note_stranger(&self, uid: u32) {
        let at = self.bank.surroundings().now();
        let note = Note::new(Event::OperatorRefused, at).outcome("refused");
        self.bank
            .note_bounded(note.detail(format!("uid {uid}")))
            .await;
    }

    async fn dispatch(&self, office: &Office, command: Command) -> Performed {
        match command {
            Command::Open { accounts } => self.open(office, accounts).await,
            Command::Sessions => Ok(Report::sessions(&self.bank.seats())),
            Command::EndSession { account } => {
                let account = number(&account)?;
                match self.bank.sessions().end(account) {
                    true => Ok(Report::done(
                        json!({ "ended": account.to_string() }),
                        "session ended",
                    )),
                    false => Err(Report::failed(
                        REFUSED,
                        format!("nobody is logged in on {account}"),
                    )),
                }
            }
            Command::Terminals => self.list_terminals(office).await,
            Command::Terminal { terminal, disabled } => {
                self.set_disabled(office, &terminal, disabled).await
            }
            Command::Invite {
                terminal,
                code,
                valid_ms,
            } => self.invite(office, &terminal, code, valid_ms).await,
            Command::Uninvite { terminal } => self.uninvite(office, &terminal).await,
            Command::RevokeTerminal { terminal } => self.revoke(office, &terminal).await,
            Command::Clock => self.clock(office).await,
            Command::AcceptClock { wall_ahead_ms } => self.take_clock(office, wall_ahead_ms).await,
            Command::Peppers => self.peppers(office).await,
            Command::RotatePepper => self.rotate_pepper(office).await,
            Command::RetirePepper { pepper } => self.retire_pepper(office, &pepper).await,
            command => {
                let (act, account) = self.act_of(command)?;
                let done = self.act(office, act).await?;
                self.report(done, account.as_deref().unwrap_or_default())
            }
        }
    }

    pub(super) async fn act(&self, office: &Office, act: Act) -> Result<Done, Report> {
        match self.bank.office(office, act).await {
            Ok(Done::NoSuchAccount) => Err(Report::failed(REFUSED, "there is no such account")),
            Ok(Done::Refused(reason)) => Err(Report::failed(REFUSED, reason)),
            Ok(done) => Ok(done),
            Err(error) => Err(Report::failed(UNAVAILABLE, error.to_string())),
        }
    }

    async fn open(&self, office: &Office, accounts: Vec<OpenAccount>) -> Performed {
        let balances = accounts.iter().map(|account| account.balance);
        if self.floor.is_open() && is_too_much(balances) {
            return Err(Report::failed(REFUSED, TOO_MUCH));
        }
        let demo = accounts.iter().filter(|account| account.demo).count();
        if demo > 0 && self.floor.serves_others_than_this_machine() {
            let reason = format!(
                "{demo} of these are demo accounts, whose PINs are public, and the server does not listen on loopback alone; \
                 mend: give them other PINs"
            );
            return Err(Report::failed(REFUSED, reason));
        }
        let mut new = Vec::with_capacity(accounts.len());
        for account in accounts {
            let hash = self.hash(&account.hash)?;
            let number = number(&account.account)?;
            new.push(NewAccount {
                number,
                hash,
                balance: account.balance,
                demo: account.demo,
            });
        }
        let done = self.act(office, Act::Open(new)).await?;
        let Done::Opened { opened, existing } = done else {
            return Err(unexpected());
        };
        let plural = if opened == 1 { "" } else { "s" };
        let mut text = format!("{opened} account{plural} opened");
        for number in &existing {
            text.push_str(&format!("\n{number} exists and was left alone"));
        }
        let existing: Vec<String> = existing.iter().map(ToString::to_string).collect();
        Ok(Report::done(
            json!({ "opened": opened, "existing": existing }),
            text,
        ))
    }

    /// A hash that came over the socket, if the bank could ever check a PIN against it.
    fn hash(&self, text: &HashText) -> Result<PinHash, Report> {
        let hash = text
            .read()
            .ok_or_else(|| Report::failed(REFUSED, "a hash is unreadable"))?;
        if self.bank.hasher().peppers().contains(&hash.pepper) {
            return Ok(hash);
        }
        let reason = format!(
            "the PIN was hashed with the pepper {}, which the bank does not use; mend: give this command the server's \
             configuration",
            hash.pepper
        );
        Err(Report::failed(REFUSED, reason))
    }

    /// Commands that are one act and no more, with the account they name.
    fn act_of(&self, command: Command) -> Result<(Act, Option<String>), Report> {
        let act = match command {
            Command::List { after, limit } => {
                let after = after.as_deref().map(number).transpose()?;
                Act::List { after, limit }
            }
            Command::Invitations => Act::Invitations,
            Command::Verify { head } => {
                let head = head.map(|text| text.parse::<Digest>()).transpose();
                Act::Verify(head.map_err(|error| Report::failed(REFUSED, error.to_string()))?)
            }
            Command::Backup { file, .. } => Act::Backup(file),
            Command::LateCaptures { limit } => Act::LateCaptures { limit },
            command @ Command::Audit { .. } => Act::Records(records_asked(command)?),
            command => {
                let account = command.account().ok_or_else(unexpected)?.to_owned();
                let act = self.account_act(number(&account)?, command)?;
                return Ok((act, Some(account)));
            }
        };
        Ok((act, None))
    }

    /// Commands on one account.
    fn account_act(&self, number: AccountNumber, command: Command) -> Result<Act, Report> {
        let currency = self.bank.currency();
        Ok(match command {
            Command::Show { .. } => Act::Show(number),
            Command::Close { .. } => Act::Close(number),
            Command::Lock { locked, .. } => Act::Lock(number, locked),
            Command::SetPin {
                hash,
                valid_ms,
                accept_row,
                ..
            } => {
                let hash = self.hash(&hash)?;
                let one_time_until = Some(self.bank.surroundings().now().plus_ms(valid_ms));
                Act::SetPin {
                    number,
                    hash,
                    one_time_until,
                    accept_row,
                }
            }
            Command::Limit {
                withdrawal, daily, ..
            } => {
                let money =
                    |text: Option<String>| text.map(|text| limit(&text, currency)).transpose();
                Act::Limit {
                    number,
                    withdrawal: money(withdrawal)?,
                    daily: money(daily)?,
                }
            }
            Command::Adjust { amount, reason, .. } => {
                let amount = signed(&amount, currency)?;
                Act::Adjust {
                    number,
                    amount,
                    reason: reason_text(&reason)?,
                }
            }
            Command::Statement {
                after,
                from,
                to,
                limit,
                ..
            } => Act::Statement {
                number,
                after,
                from: moment(from)?,
                to: moment(to)?,
                limit,
            },
            _ => return Err(unexpected()),
        })
    }

    fn report(&self, done: Done, account: &str) -> Performed {
        let currency = self.bank.currency();
        match done {
            Done::Yes => Ok(Report::done(
                json!({ "done": true, "account": account }),
                "done",
            )),
            Done::Account(report) => Ok(Report::account(&report, currency)),
            Done::Accounts(reports) => Ok(Report::accounts(&reports, currency)),
            Done::Lines(lines) => Ok(Report::lines(&lines, currency)),
            Done::Posted { entry, balance } => Ok(Report::done(
                json!({ "entry": entry, "balance": balance }),
                format!(
                    "entry {entry}; the balance is {} {currency} now",
                    currency.format(balance)
                ),
            )),
            Done::Audit(audit) => Ok(Report::audit(&audit, currency)),
            Done::Records(records) => Ok(Report::records(&records)),
            Done::Count(count) => Ok(Report::done(json!({ "count": count }), count.to_string())),
            Done::Invitations(open) => Ok(Report::invitations(&open)),
            Done::Opened { .. }
            | Done::Certificates(_)
            | Done::Clock(_)
            | Done::Mended(_)
            | Done::Acknowledged { .. }
            | Done::Peppers(_)
            | Done::Terminals(_)
            | Done::NoSuchAccount
            | Done::Refused(_) => Err(unexpected()),
        }
    }
}

fn records_asked(command: Command) -> Result<RecordsAsked, Report> {
    let Command::Audit {
        after,
        from,
        to,
        event,
        terminal,
        limit,
        newest,
    } = command
    else {
        return Err(unexpected());
    };
    Ok(RecordsAsked {
        after,
        from: moment(from)?,
        to: moment(to)?,
        event,
        terminal,
        limit: limit.min(limits::AUDIT_LISTED_MAX),
        newest,
    })
}

pub(super) fn unexpected() -> Report {
    Report::failed(70, "the store answered something else than was asked")
}

fn number(text: &str) -> Result<AccountNumber, Report> {
    text.parse()
        .map_err(|error| Report::failed(REFUSED, format!("{error}")))
}

fn limit(text: &str, currency: Currency) -> Result<i64, Report> {
    currency
        .parse_exact(text)
        .ok_or_else(|| not_money(currency))
}

fn signed(text: &str, currency: Currency) -> Result<i64, Report> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    currency
        .parse_exact(digits)
        .map(|minor| minor.saturating_mul(sign))
        .ok_or_else(|| not_money(currency))
}

fn not_money(currency: Currency) -> Report {
    let decimals = currency.decimals();
    Report::failed(
        REFUSED,
        format!("an amount is digits, or digits, a point and {decimals} decimals"),
    )
}

fn moment(text: Option<String>) -> Result<Option<Timestamp>, Report> {
    let Some(text) = text else { return Ok(None) };
    let moment = Timestamp::parse(&text);
    moment
        .map(Some)
        .ok_or_else(|| Report::failed(REFUSED, "a time is RFC 3339, or a date as 2026-01-31"))
}

/// The longest reason, in characters.
const REASON_CHARACTERS_MAX: usize = 200;

fn reason_text(text: &str) -> Result<String, Report> {
    let text = text.trim();
    let fits = (1..=REASON_CHARACTERS_MAX).contains(&text.chars().count());
    if fits && printable::is_plain(text) {
        Ok(text.to_owned())
    } else {
        let reason = format!("a reason is 1 to {REASON_CHARACTERS_MAX} printable characters");
        Err(Report::failed(REFUSED, reason))
    }
}
