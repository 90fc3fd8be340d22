//! Invitations and issued certificates. Nothing is ever removed but a code that staff take back or
//! replace: what is over is told by looking at the time, each time.

use std::collections::BTreeMap;

use super::books::Books;
use crate::domain::{TerminalName, Timestamp};
use crate::store::enrolment::{
    CERTIFICATES_PER_TERMINAL_MAX, CodeHash, INVITATIONS_MAX, Invitation, IssuedRecord,
    NewCertificate, REFETCH_MS, Recorded, Warrant,
};
use crate::store::{Context, Done};

/// Codes and certificates.
#[derive(Debug, Default)]
pub(super) struct Enrolments {
    codes: BTreeMap<TerminalName, Code>,
    certificates: Vec<Kept>,
}

#[derive(Debug)]
struct Code {
    hash: CodeHash,
    made_at: Timestamp,
    expires_at: Timestamp,
    /// When it was used, and which certificate it gave.
    used: Option<(Timestamp, usize)>,
}

#[derive(Debug)]
struct Kept {
    new: NewCertificate,
    issued_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

impl Kept {
    fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.new.ends_at
    }
}

impl Code {
    fn is_open(&self, now: Timestamp) -> bool {
        self.used.is_none() && now < self.expires_at
    }

    /// Whether it still gives anything to anyone.
    fn is_kept(&self, now: Timestamp) -> bool {
        match self.used {
            None => self.is_open(now),
            Some((used_at, _)) => now < used_at.plus_ms(REFETCH_MS),
        }
    }
}

impl Books {
    pub(super) fn warranted(
        &self,
        warrant: &Warrant,
        key: &[u8; 32],
        now: Timestamp,
    ) -> Option<TerminalName> {
        let enrolments = &self.enrolments;
        let terminal = match warrant {
            Warrant::Certificate(serial) => {
                let mut kept = enrolments.certificates.iter();
                let kept = kept.find(|kept| kept.new.serial == *serial)?;
                kept.is_good(now).then(|| kept.new.terminal.clone())?
            }
            Warrant::Code(hash) => {
                let (terminal, code) = enrolments.codes.iter().find(|(_, c)| c.hash == *hash)?;
                let given = self.given(code, key, now).is_some();
                (code.is_open(now) || given).then(|| terminal.clone())?
            }
        };
        let disabled = self.terminals.get(&terminal) == Some(&true);
        (!disabled).then_some(terminal)
    }

    /// What the warrant gave this very key before.
    fn given_before(
        &self,
        warrant: &Warrant,
        terminal: &TerminalName,
        key: &[u8; 32],
        now: Timestamp,
    ) -> Option<&NewCertificate> {
        match warrant {
            Warrant::Code(_) => self.given(self.enrolments.codes.get(terminal)?, key, now),
            Warrant::Certificate(serial) => self.successor(serial, key, now),
        }
    }

    /// The newest certificate of the same terminal for this key since the one shown.
    fn successor(&self, serial: &str, key: &[u8; 32], now: Timestamp) -> Option<&NewCertificate> {
        let all = || self.enrolments.certificates.iter();
        let shown = all().find(|kept| kept.new.serial == serial)?;
        let later = all().filter(|kept| {
            kept.is_good(now)
                && kept.new.terminal == shown.new.terminal
                && kept.new.key == *key
                && kept.new.serial != shown.new.serial
                && kept.issued_at >= shown.issued_at
        });
        let newest = later.max_by_key(|kept| (kept.issued_at, kept.new.serial.clone()));
        newest.map(|kept| &kept.new)
    }

    /// What the code gave this very key not long ago.
    fn given(&self, code: &Code, key: &[u8; 32], now: Timestamp) -> Option<&NewCertificate> {
        let (used_at, index) = code.used?;
        let kept = self.enrolments.certificates.get(index)?;
        let own = kept.new.key == *key && kept.is_good(now);
        (own && now < used_at.plus_ms(REFETCH_MS)).then_some(&kept.new)
    }

    pub(super) fn record_certificate(
        &mut self,
        warrant: &Warrant,
        new: NewCertificate,
        context: &Context,
    ) -> Recorded {
        let now = context.now;
        let Some(terminal) = self.warranted(warrant, &new.key, now) else {
            return Recorded::Refused;
        };
        if let Some(given) = self.given_before(warrant, &terminal, &new.key, now) {
            return Recorded::Certificate(given.der.clone());
        }
        if terminal != new.terminal {
            return Recorded::Refused;
        }
        let kept = self.enrolments.certificates.iter();
        let ends = kept.filter(|kept| kept.new.terminal == terminal && kept.is_good(now));
        let mut ends: Vec<Timestamp> = ends.map(|kept| kept.new.ends_at).collect();
        ends.sort();
        let full = u64::try_from(ends.len()).is_ok_and(|n| n >= CERTIFICATES_PER_TERMINAL_MAX);
        if let (Warrant::Certificate(_), true, Some(first)) = (warrant, full, ends.first()) {
            return Recorded::TooMany(now.ms_until(*first));
        }
        let der = new.der.clone();
        self.append(&new.note(warrant, context));
        let index = self.enrolments.certificates.len();
        self.enrolments.certificates.push(Kept {
            new,
            issued_at: now,
            revoked_at: None,
        });
        if let (Warrant::Code(_), Some(code)) = (warrant, self.enrolments.codes.get_mut(&terminal))
        {
            code.used = Some((now, index));
        }
        Recorded::Certificate(der)
    }

    pub(super) fn invite(
        &mut self,
        terminal: TerminalName,
        hash: CodeHash,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Done {
        let refused = |why: &str| Done::Refused(why.to_owned());
        if terminal.is_anonymous() {
            return refused("terminals without a certificate are called that");
        }
        if self.terminals.get(&terminal) == Some(&true) {
            return refused("the terminal is disabled");
        }
        let mut codes = self.enrolments.codes.iter();
        if codes.any(|(name, code)| *name != terminal && code.hash == hash && code.is_kept(now)) {
            return refused("another terminal has that code");
        }
        self.enrolments.codes.remove(&terminal);
        let open = self.enrolments.codes.values();
        let open = open.filter(|code| code.is_open(now)).count();
        if u64::try_from(open).is_ok_and(|open| open >= INVITATIONS_MAX) {
            return refused("too many codes are open");
        }
        let code = Code {
            hash,
            made_at: now,
            expires_at,
            used: None,
        };
        self.enrolments.codes.insert(terminal, code);
        Done::Yes
    }

    pub(super) fn uninvite(&mut self, terminal: &TerminalName, now: Timestamp) -> Done {
        let codes = &mut self.enrolments.codes;
        match codes.get(terminal) {
            Some(code) if code.is_open(now) => {
                codes.remove(terminal);
                Done::Yes
            }
            _ => Done::Refused("there is no open code for that terminal".to_owned()),
        }
    }

    pub(super) fn uninvite_all(&mut self) -> Done {
        self.enrolments.codes.clear();
        Done::Yes
    }

    pub(super) fn invitations(&self, now: Timestamp) -> Done {
        let codes = self.enrolments.codes.iter();
        let open = codes.filter(|(_, code)| code.is_open(now));
        let line = |(terminal, code): (&TerminalName, &Code)| Invitation {
            terminal: terminal.clone(),
            made_at: code.made_at,
            expires_at: code.expires_at,
        };
        Done::Invitations(open.map(line).collect())
    }

    /// Whoever got a certificate, whatever became of it.
    pub(super) fn enrolled(&self) -> impl Iterator<Item = &TerminalName> {
        let kept = self.enrolments.certificates.iter();
        kept.map(|kept| &kept.new.terminal)
    }

    pub(super) fn revoke_certificates(&mut self, terminal: &TerminalName, now: Timestamp) -> Done {
        let codes = &mut self.enrolments.codes;
        codes.retain(|name, code| name != terminal || code.used.is_some());
        let kept = self.enrolments.certificates.iter_mut();
        for kept in kept.filter(|kept| kept.new.terminal == *terminal && now < kept.new.ends_at) {
            kept.revoked_at.get_or_insert(now);
        }
        self.records(now, |kept| kept.new.terminal == *terminal)
    }

    pub(super) fn revoked_certificates(&self, now: Timestamp) -> Done {
        self.records(now, |kept| kept.revoked_at.is_some())
    }

    fn records(&self, now: Timestamp, wanted: impl Fn(&Kept) -> bool) -> Done {
        let kept = self.enrolments.certificates.iter();
        let kept = kept.filter(|kept| now < kept.new.ends_at && wanted(kept));
        let mut records: Vec<IssuedRecord> = kept
            .map(|kept| IssuedRecord {
                serial: kept.new.serial.clone(),
                ends_at: kept.new.ends_at,
                revoked_at: kept.revoked_at,
            })
            .collect();
        records.sort_by(|one, other| one.serial.cmp(&other.serial));
        Done::Certificates(records)
    }
}
