//! Everything put together: configuration, store, PINs, bank, server, operator's socket.
//!
//! The only room that knows all others; the binaries call it and turn what it says into an exit
//! code.

mod backup;
mod check;
mod confinement;
mod import;
mod invite;
mod issuing;
mod open;
mod process;
mod questions;
mod quick_start;
mod restore;
mod run;
mod signals;
mod stop;
mod supervisor;

use std::path::{Path, PathBuf};

pub use backup::backup;
pub use check::{CheckReport, check};
pub use confinement::{Confinement, close, confine};
pub use import::{hash_accounts, hash_pin, one_time_pin, read_accounts, refuse_too_much};
pub use invite::invite;
pub use open::OpenBank;
pub use process::threads_can_be_had;
pub use quick_start::Made;
pub use restore::{Restored, restore};
pub use run::{RunOptions, run};
pub use stop::{Stop, exit};

use crate::config::{Config, DEFAULT_FILE, Loaded, Overrides};
use crate::durable;
use crate::operator::{Command, Desk, Report, socket};

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// `--config`
    pub file: Option<PathBuf>,
    /// Other flags.
    pub overrides: Overrides,
}

impl Source {
    /// The file that is read: the one named, or the default one unless nothing stands there.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| !durable::is_absent(path));
        self.file.clone().or_else(default)
    }

    /// Reads file, environment and flags.
    ///
    /// # Errors
    /// [`Stop`] with every fault, exit code 78.
    pub fn load(&self) -> Result<Loaded, Stop> {
        Config::load(self.path().as_deref(), std::env::vars_os(), &self.overrides)
            .map_err(|errors| Stop::new(exit::CONFIG, errors.to_string()))
    }
}

/// Performs a command of staff: in the server that runs, or here where none does.
///
/// # Errors
/// [`Stop`] where neither works.
pub async fn perform(config: &Config, command: Command) -> Result<Report, Stop> {
    if let Some(answered) = ask_server(&config.server.operator_socket, &command).await? {
        return Ok(answered.report);
    }
    perform_here(config, command).await
}

/// Performs a command in this process.
async fn perform_here(config: &Config, command: Command) -> Result<Report, Stop> {
    let makes = matches!(command, Command::Open { .. });
    let open = match command {
        Command::Verify { .. } => OpenBank::open_to_verify(config)?,
        _ => OpenBank::open(config, makes)?,
    };
    let bank = open.bank();
    let told = bank.tell_of_start().await;
    told.map_err(|error| run::unwritten(&error))?;
    let floor = issuing::ClosedFloor::of(config, &bank);
    let desk = Desk::new(bank, floor).with_pepper_file(open::pepper_file(config));
    let actor = format!("uid {}", rustix::process::getuid().as_raw());
    Ok(desk.perform(&actor, command).await)
}

async fn ask_server(path: &Path, command: &Command) -> Result<Option<socket::Answered>, Stop> {
    socket::ask(path, command).await.map_err(|error| {
        let reason = format!(
            "the server behind {} did not answer: {error}",
            path.display()
        );
        Stop::new(exit::UNAVAILABLE, reason)
    })
}
