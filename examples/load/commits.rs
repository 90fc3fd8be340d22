//! How often the server commits, and how many orders with each, from its own metrics.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For an answer; a server that hangs is not waited for.
const WAIT: Duration = Duration::from_secs(10);

/// What was committed so far.
#[derive(Clone, Copy)]
pub(crate) struct Committed {
    commits: f64,
    calls: f64,
}

impl Committed {
    pub(crate) async fn ask(monitor: SocketAddr) -> Option<Self> {
        timeout(WAIT, Self::asked(monitor)).await.ok()?
    }

    async fn asked(monitor: SocketAddr) -> Option<Self> {
        let mut stream = TcpStream::connect(monitor).await.ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: bank\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.ok()?;
        let value = |name: &str| {
            let mut lines = said.lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        Some(Self {
            commits: value("bank_commits_total ")?,
            calls: value("bank_committed_calls_total ")?,
        })
    }

    /// Calls with each commit since then; none where nothing was committed.
    pub(crate) fn mean_since(self, before: Self) -> Option<f64> {
        let commits = self.commits - before.commits;
        (commits > 0.0).then(|| (self.calls - before.calls) / commits)
    }
}
