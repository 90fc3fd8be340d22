//! What happens while nobody asks for anything: the bank's word, and the next certificate.

use super::{News, Teller};
use crate::atm::enrol::Renewal;

impl Teller {
    /// The same with its certificate renewed, at the start where it is due, and then between
    /// customers.
    pub async fn renewing(mut self, mut renewal: Renewal) -> Self {
        if let Some(trust) = renewal.at_start().await {
            self.bank.trust = trust;
        }
        self.renewal = Some(renewal);
        self
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
            let notice = tokio::select! {
                notice = notice => notice,
                trust = renewed => {
                    self.bank.trust = trust;
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
