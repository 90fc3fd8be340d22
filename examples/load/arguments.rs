//! What a run is asked for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::work::Mix;

/// How idempotency keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// UUIDs of version 7, ordered by time, as PROTOCOL.md advises.
    Ordered,
    /// Random ones.
    Random,
}

/// Puts load on a bank server over TLS, checks every answer and every balance.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Arguments {
    /// A server that runs already; needs --certs and --accounts-file. Without it, a bank is made
    /// in --folder and served from there.
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "certs",
        requires = "accounts_file"
    )]
    pub(crate) to: Option<SocketAddr>,
    /// Its folder of certificates: ca.pem and terminals/.
    #[arg(long, value_name = "DIR")]
    pub(crate) certs: Option<PathBuf>,
    /// Its customers, as `import` takes them: NUMBER, PIN, BALANCE.
    #[arg(long, value_name = "FILE")]
    pub(crate) accounts_file: Option<PathBuf>,
    /// Its process, for processor time and memory.
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,

    /// The folder of the bank that is made; kept, and used again where it has one. Default: a
    /// temporary one under target/.
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// The server's program. Default: the one of the same build.
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,
    /// Accounts of the bank that is made. Default: as many as are needed.
    #[arg(long, default_value_t = 0)]
    pub(crate) accounts: usize,
    /// A setting of that bank: KEY=VALUE, such as pin.memory_kib=19456.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,

    /// Terminals with a customer each.
    #[arg(long, default_value_t = 64)]
    pub(crate) terminals: usize,
    /// Certificates that terminals share. Default: one each, 256 at most.
    #[arg(long, value_name = "COUNT")]
    pub(crate) certificates: Option<usize>,
    /// Requests of one terminal that are on their way at once (closed loop).
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Open loop: so many requests a second in all, evenly.
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// What is asked, with weights: deposit, withdraw, transfer, balance, history, ping.
    #[arg(long, default_value = "deposit=1,withdraw=1,transfer=1")]
    pub(crate) mix: Mix,
    /// How keys are made.
    #[arg(long, value_enum, default_value_t = Keys::Ordered)]
    pub(crate) keys: Keys,
    /// Seconds that count.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) warm_up: f64,
    /// New connections a second, at most; 0: as fast as they come.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub(crate) ramp: f64,
    /// Further connections that are held open without a customer.
    #[arg(long, default_value_t = 0)]
    pub(crate) idle: usize,
    /// Further terminals that do nothing but log in and out.
    #[arg(long, default_value_t = 0)]
    pub(crate) logins: usize,
    /// Further terminals that do nothing but connect, ask for a `ping` and go.
    #[arg(long, default_value_t = 0)]
    pub(crate) handshakes: usize,

    /// Threads of this tool.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// What choices at random begin with.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The name of this run in results.
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// Appends the results as a line to this file of comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Appends answers second by second to this file of comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub(crate) series: Option<PathBuf>,
    /// Prints the results as an object of JSON, and nothing else on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress on stderr.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Leaves out `bank_server verify` at the end, which takes long for a large ledger.
    #[arg(long)]
    pub(crate) skip_verify: bool,
}

impl Arguments {
    /// What no run can be made of.
    pub(crate) fn check(&self) -> Result<(), String> {
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let asked = u64::try_from(self.terminals + self.idle + self.logins + self.handshakes + 64)
            .unwrap_or(u64::MAX);
        if open_files.is_some_and(|limit| asked > limit) {
            return Err(format!(
                "the limit on open files is below the {asked} that are needed"
            ));
        }
        if self.depth == 0 || self.seconds <= 0.0 || self.warm_up < 0.0 {
            return Err("--depth and --seconds must be above 0".to_owned());
        }
        if self
            .rate
            .is_some_and(|rate| rate <= 0.0 || self.terminals == 0)
        {
            return Err("--rate needs a rate above 0 and terminals".to_owned());
        }
        Ok(())
    }

    /// Accounts that are logged in to.
    pub(crate) fn customers(&self) -> usize {
        self.terminals + self.logins
    }

    pub(crate) fn certificates(&self) -> usize {
        let each = (self.terminals + self.logins).clamp(1, 256);
        self.certificates.unwrap_or(each).max(1)
    }

    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}
