//! What happens while nobody asks for anything: the bank's word, and the next certificate.

use tokio::time::{Instant, sleep_until};

use super::{BEAT, News, Teller};
use crate::atm::enrol::Renewal;
use crate::atm::journal::Origin;
use crate::atm::trust::Trust;

impl Teller {
    /// The same with its certificate renewed, at the start where it is due, and then between
    /// customers.
    pub async fn renewing(mut self, mut renewal: Renewal) -> Self {
        if let Some(trust) = renewal.at_start().await {
            self.trust_anew(trust);
        }
        self.renewal = Some(renewal);
        self
    }

    /// From now on requests are between whom the new certificates name.
    fn trust_anew(&mut self, trust: Trust) {
        self.origin = Origin::new(&trust.bank, trust.terminal.clone());
        self.bank.trust = trust;
    }

    /// Shows the bank that this terminal lives, and finds out whether the bank does. It does not put
    /// off the end of a silent customer's session.
    async fn beat(&mut self) {
        self.next_beat = Instant::now() + BEAT;
        let Some(connection) = &mut self.connection else {
            return;
        };
        let sent = connection.beat().await;
        if let Some(time) = connection.take_time() {
            self.clock.hear(&time);
        }
        if let Err(error) = sent {
            self.hang_up();
            self.news.push_back(News::Lost(error.to_string()));
        }
    }

    /// Waits for what the bank says of its own accord. Nothing is lost where the wait is given
    /// up. Between customers nobody needs to know that a connection ended.
    pub async fn next_news(&mut self) -> News {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            let logged_in = self.session.is_some();
            let notice = async {
                match &mut self.connection {
                    Some(connection) => connection.notice().await,
                    None => std::future::pending().await,
                }
            };
            let renewed = async {
                match &mut self.renewal {
                    Some(renewal) if !logged_in => renewal.renewed().await,
                    _ => std::future::pending().await,
                }
            };
            let next_beat = self.next_beat;
            let beat = async {
                match logged_in {
                    true => sleep_until(next_beat).await,
                    false => std::future::pending().await,
                }
            };
            let notice = tokio::select! {
                notice = notice => notice,
                () = beat => {
                    self.beat().await;
                    continue;
                }
                trust = renewed => {
                    self.trust_anew(trust);
                    // The next customer comes with the new certificate.
                    if let Some(connection) = self.connection.take() {
                        connection.farewell(false).await;
                    }
                    continue;
                }
            };
            match notice {
                Ok(notice) => self.note(&notice),
                Err(error) => {
                    self.hang_up();
                    self.news.push_back(News::Lost(error.to_string()));
                }
            }
            if !logged_in {
                self.news.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atm::journal::{Journal, Order};
    use crate::atm::teller::new_keyed;
    use crate::atm::{Bank, Deadlines, TrustFiles};

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn what_is_asked_after_a_renewal_is_written_down_as_asked_of_the_new_authority_too() {
        let folder = tempfile::tempdir().unwrap();
        let files = TrustFiles {
            ca: folder.path().join("ca.pem"),
            identity: None,
            pins: Vec::new(),
        };
        let old = authority();
        std::fs::write(&files.ca, &old).unwrap();
        let bank = Bank {
            address: "localhost:1".parse().unwrap(),
            trust: files.load().unwrap(),
            deadlines: Deadlines::default(),
        };
        let mut teller = Teller::new(bank, Journal::open(None));
        std::fs::write(&files.ca, old + &authority()).unwrap();
        let trust = files.load().unwrap();
        let both: Vec<String> = trust.bank.iter().map(ToString::to_string).collect();
        teller.trust_anew(trust);
        let pending = teller.begin(Order::Deposit(new_keyed(1))).unwrap();
        assert_eq!((both.len(), &pending.record().origin.bank), (2, &both));
    }
}
