//! What is in a folder.

use std::collections::HashSet;

use data_encoding::HEXLOWER;

use super::authority::authorities;
use super::error::PkiError;
use super::facts::{CertificateFacts, RevocationListFacts, Serial, spki_sha256};
use super::files;
use super::folder::{CertificateFolder, Leaf, Pair, read_leaf};
use super::reading;
use super::register::Register;
use super::report::{
    CertificateReport, RevocationListReport, RevokedReport, ShowReport, Standing, Subject, rfc3339,
};
use super::revocation::Revocations;

impl CertificateFolder {
    /// Tells what is in the folder. Nothing is changed, no lock is taken, no key is read.
    ///
    /// # Errors
    /// Where there is no authority, or a file is damaged.
    pub fn show(&self) -> Result<ShowReport, PkiError> {
        if !files::exists(self.path())? {
            return Err(self.missing());
        }
        let trusted = authorities(&self.authority_file())?;
        let revocations = Revocations::read(self, &trusted)?;
        let issued = Register::issued(&self.issued_file())?;
        let revoked = revocations.serials();

        let pair = Pair {
            certificate: self.authority_file(),
            key: self.authority_key_file(),
        };
        let authorities = trusted.into_iter().map(|one| {
            let leaf = Leaf {
                der: one.der,
                facts: one.facts,
            };
            let name = leaf.facts.subject.clone();
            self.certificate(Subject::Authority, name, &pair, &leaf, &revoked)
        });
        let authorities = authorities.collect::<Result<_, _>>()?;

        let pair = self.server_pair();
        let server = read_leaf(&pair.certificate)?.map(|leaf| {
            let name = leaf.facts.server_names.join(" ");
            self.certificate(Subject::Server, name, &pair, &leaf, &revoked)
        });

        let pair = self.issuing_pair();
        let issuing = read_leaf(&pair.certificate)?.map(|leaf| {
            let name = leaf.facts.subject.clone();
            self.certificate(Subject::IssuingAuthority, name, &pair, &leaf, &revoked)
        });
        let issuing_list = self.issuing_list()?.map(|facts| self.list(&facts, &issued));

        let mut terminals = Vec::new();
        for name in self.terminals()? {
            let Some(leaf) = self.terminal_leaf(&name)? else {
                continue;
            };
            let pair = self.terminal_pair(&name);
            let text = name.to_string();
            terminals.push(self.certificate(Subject::Terminal, text, &pair, &leaf, &revoked)?);
        }
        Ok(ShowReport {
            folder: self.path().to_owned(),
            authorities,
            server: server.transpose()?,
            terminals,
            issuing: issuing.transpose()?,
            issuing_revocation_list: issuing_list,
            revocation_lists: revocations
                .lists()
                .iter()
                .map(|list| self.list(&list.facts, &issued))
                .collect(),
            issued: issued.rows().len(),
        })
    }

    fn certificate(
        &self,
        subject: Subject,
        name: String,
        pair: &Pair,
        leaf: &Leaf,
        revoked: &HashSet<Serial>,
    ) -> Result<CertificateReport, PkiError> {
        let file = pair.certificate.clone();
        let hash = spki_sha256(&leaf.der).map_err(|reason| reading::damaged(&file, 1, reason))?;
        Ok(CertificateReport {
            subject,
            name,
            file,
            serial: leaf.facts.serial.to_string(),
            not_before: rfc3339(leaf.facts.not_before),
            end: rfc3339(leaf.facts.not_after),
            standing: self.standing(&leaf.facts, revoked),
            key: files::exists(&pair.key)?,
            spki_sha256: HEXLOWER.encode(&hash),
        })
    }

    fn standing(&self, facts: &CertificateFacts, revoked: &HashSet<Serial>) -> Standing {
        let now = self.now().unix_timestamp();
        if revoked.contains(&facts.serial) {
            Standing::Revoked
        } else if now < facts.not_before {
            Standing::NotYetValid
        } else if now > facts.not_after {
            Standing::Ended
        } else {
            Standing::Valid
        }
    }

    fn list(&self, facts: &RevocationListFacts, issued: &Register) -> RevocationListReport {
        let name_of = |serial: &Serial| {
            let row = issued.rows().iter().find(|row| row.serial == *serial);
            row.map(|row| row.name.clone())
        };
        let now = self.now().unix_timestamp();
        let revoked = facts.revoked.iter().map(|one| RevokedReport {
            serial: one.serial.to_string(),
            name: name_of(&one.serial),
            at: rfc3339(one.at),
        });
        RevocationListReport {
            number: facts.number,
            this_update: rfc3339(facts.this_update),
            next_update: Some(rfc3339(facts.next_update)),
            overdue: facts.next_update < now,
            revoked: revoked.collect(),
        }
    }
}
