//! What a server's monitoring listener says.

use std::net::{SocketAddr, TcpListener};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{in_time, until_async};

/// Where a server is to serve its metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Monitor(SocketAddr);

impl Monitor {
    /// A port that was free a moment ago.
    pub(crate) fn free() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        Self(free.local_addr().unwrap())
    }

    /// For the setting `metrics.listen`.
    pub(crate) fn setting(self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The status line and the rest of what it says.
    pub(crate) async fn get(self, path: &str) -> (String, String) {
        let mut stream = in_time("TCP", TcpStream::connect(self.0)).await.unwrap();
        let asked = format!("GET {path} HTTP/1.1\r\nHost: bank\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut said = String::new();
        in_time("the answer", stream.read_to_string(&mut said))
            .await
            .unwrap();
        let (status, rest) = said.split_once("\r\n").unwrap();
        (status.to_owned(), rest.to_owned())
    }

    /// A metric's value, by its name with its labels; 0 where it is not shown.
    pub(crate) async fn value(self, metric: &str) -> i64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(metric));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a metric's value is what is wished for.
    pub(crate) async fn wait_for(self, metric: &str, wished: impl Fn(i64) -> bool) {
        until_async(&format!("{metric} to be as wished"), async || {
            wished(self.value(metric).await).then_some(())
        })
        .await;
    }
}
