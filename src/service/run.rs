//! `run`: from a configuration to a serving server, and down again in order.

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::open::{OpenBank, sqlite_path};
use super::quick_start::{self, Made};
use super::stop::{Stop, exit};
use super::{Source, issuing};
use crate::bank::Bank;
use crate::config::{Config, Loaded};
use crate::domain::TerminalName;
use crate::limits;
use crate::operator::socket::Socket;
use crate::operator::{Desk, Floor};
use crate::server::Server;
use crate::server::tls::Trust;
use crate::store::sqlite::SqliteStore;
use crate::store::{Act, Done, IssuedRecord, Office};
use crate::surroundings::{Surroundings as _, System};
use crate::telemetry::{Metrics, start_log};

/// How `run` was asked for.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The configuration.
    pub source: Source,
    /// `--quick-start`
    pub quick_start: bool,
    /// No flag and no command but `run` was given.
    pub bare: bool,
}

struct RunningFloor(Arc<Server>);

impl Floor for RunningFloor {
    fn set_disabled(&self, terminal: &TerminalName, disabled: bool) {
        self.0.set_disabled(terminal, disabled);
    }

    fn revoke(&self, terminal: &TerminalName, revoked: &[IssuedRecord]) -> Result<(), String> {
        let revoked = self.0.revoke(terminal, revoked);
        revoked.map_err(|error| error.to_string())
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// Serves until a signal ends it.
///
/// # Errors
/// [`Stop`] where it cannot start, or the ledger was found broken.
pub async fn run(options: &RunOptions) -> Result<(), Stop> {
    let Loaded {
        mut config,
        warnings,
        from_environment,
    } = options.source.load()?;
    // The log ends last, so that it holds everything.
    let _log = start_log(config.log.format, config.log.level);
    log_panics();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let bare_first = options.bare
        && !from_environment
        && config.server.listen.ip().is_loopback()
        && quick_start::is_untouched(&config)?;
    let quick = options.quick_start || bare_first;
    raise_open_files(&mut config);
    let mut made = Made::default();
    if quick {
        quick_start::make_certificates(&config, &mut made)?;
    }
    let mut trust = Trust::load(&config.tls, System::default().now())?;
    for warning in &trust.warnings {
        tracing::warn!("{warning}");
    }
    let open = OpenBank::open(&config, true)?;
    if issuing::make_good(&config, trust.enrolment.as_ref(), &open.bank()).await? {
        trust = Trust::load(&config.tls, System::default().now())?;
    }
    if quick && open.made_store {
        quick_start::import_demo(&config, &open, &mut made).await?;
    }
    refuse_public_demo(&config, &open.bank()).await?;
    serve(config, trust, open, options, &made).await
}

/// Everything that listens.
struct Doors {
    terminals: TcpListener,
    address: SocketAddr,
    monitors: Option<TcpListener>,
    staff: Socket,
}

impl Doors {
    fn open(config: &Config) -> Result<Self, Stop> {
        let terminals = listen(config.server.listen)?;
        let address = terminals
            .local_addr()
            .map_err(|error| Stop::new(exit::SYSTEM, error.to_string()))?;
        let monitors = config.metrics.listen.map(listen).transpose()?;
        let path = &config.server.operator_socket;
        let staff = Socket::bind(path).map_err(|error| {
            let reason = format!(
                "cannot make the operator's socket {}: {error}",
                path.display()
            );
            Stop::new(exit::CANNOT_CREATE, reason)
        })?;
        Ok(Self {
            terminals,
            address,
            monitors,
            staff,
        })
    }
}

async fn serve(
    config: Config,
    trust: Trust,
    open: OpenBank,
    options: &RunOptions,
    made: &Made,
) -> Result<(), Stop> {
    let bank = open.bank();
    drop(open);
    let store_path = sqlite_path(&config)?;
    let disabled: HashSet<TerminalName> = SqliteStore::disabled_terminals(&store_path)
        .map_err(|error| Stop::new(exit::IO, error.to_string()))?
        .into_iter()
        .collect();
    let doors = Doors::open(&config)?;
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::default());
    let server = Arc::new(Server::new(
        Arc::clone(&bank),
        metrics,
        config.clone(),
        trust,
        disabled,
    ));
    let desk = Arc::new(Desk::new(
        Arc::clone(&bank),
        Arc::new(RunningFloor(Arc::clone(&server))),
    ));
    let accepting = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.accept(doors.terminals).await }
    });
    let others = [
        tokio::spawn({
            let bank = Arc::clone(&bank);
            async move { bank.keep_sweeping().await }
        }),
        tokio::spawn(async move { doors.staff.serve(desk).await }),
        tokio::spawn({
            let server = Arc::clone(&server);
            async move {
                if let Some(listener) = doors.monitors {
                    server.serve_metrics(listener).await;
                }
            }
        }),
    ];
    announce(doors.address, &config, made)?;
    let ending = signals.wait(&server, &bank, &options.source).await;
    tracing::info!(connections = server.connections(), "going down");
    let drained = server.drain().await;
    tracing::info!(drained, "stopped");
    accepting.abort();
    for task in others {
        task.abort();
        // Waited for, so that the operator's socket is gone and the store closed behind us.
        let _ = task.await;
    }
    ending
}

/// The one line on stdout that says the server is ready; everything else goes to stderr.
fn announce(address: SocketAddr, config: &Config, made: &Made) -> Result<(), Stop> {
    let failed = |error: io::Error| Stop::new(exit::IO, format!("cannot write to stdout: {error}"));
    if !made.0.is_empty() {
        let mut stderr = io::stderr().lock();
        let mut words = String::from("quick start made:\n");
        for thing in &made.0 {
            words.push_str(&format!("  {thing}\n"));
        }
        words.push_str(&format!(
            "a terminal, in another window (account zz-99999, PIN 9999):\n  {}\n",
            quick_start::terminal_command(config, address.port())
        ));
        stderr.write_all(words.as_bytes()).map_err(failed)?;
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")
        .and_then(|()| stdout.flush())
        .map_err(failed)?;
    tracing::info!(%address, "listening");
    Ok(())
}

/// Demo accounts have public PINs: they are served on loopback only.
async fn refuse_public_demo(config: &Config, bank: &Bank) -> Result<(), Stop> {
    if config.server.listen.ip().is_loopback() {
        return Ok(());
    }
    match bank.office(&Office::of("start"), Act::DemoAccounts).await {
        Ok(Done::Count(0)) => Ok(()),
        Ok(Done::Count(count)) => Err(Stop::new(
            exit::CONFIG,
            format!(
                "{count} demo accounts, whose PINs are public, are in the store, and [server] listen {} is not loopback; \
                 mend: give them other PINs (bank_server account set-pin), or listen on 127.0.0.1",
                config.server.listen
            ),
        )),
        Ok(_) => Err(Stop::new(
            exit::SOFTWARE,
            "the store answered something else than was asked",
        )),
        Err(error) => Err(Stop::new(exit::IO, error.to_string())),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Stop> {
    let bind = || -> io::Result<TcpListener> {
        let socket = RawSocket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restarted server takes its port again while old connections run out.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(limits::LISTEN_BACKLOG).unwrap_or(i32::MAX))?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is in use; mend: stop what listens there, or choose another".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "this user may not listen there; mend: a port of 1024 or more".to_owned()
            }
            _ => error.to_string(),
        };
        Stop::new(
            exit::UNAVAILABLE,
            format!("cannot listen on {address}: {why}"),
        )
    })
}

/// Raises the soft limit on open files to the hard one, and lowers what is promised where even
/// that is too low.
fn raise_open_files(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(files) = files else { return };
    let room = usize::try_from(files.saturating_sub(limits::FILES_RESERVED))
        .unwrap_or(usize::MAX)
        .max(1);
    if config.server.max_connections > room {
        tracing::warn!(
            max_connections = room,
            open_files = files,
            "the limit on open files is too low for [server] max_connections; it is lowered"
        );
        config.server.max_connections = room;
        config.server.max_connections_per_ip = config.server.max_connections_per_ip.min(room);
    }
}

/// A panic's place is logged, never its message, which might hold a customer's data.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, Stop> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Stop::new(exit::SYSTEM, format!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the end; reloads meanwhile.
    async fn wait(
        &mut self,
        server: &Arc<Server>,
        bank: &Bank,
        source: &Source,
    ) -> Result<(), Stop> {
        let mut broken = bank.watch_broken();
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                _ = self.hang_up.recv() => reload(server, source).await,
                Ok(found) = broken.wait_for(Option::is_some) => {
                    let reason = found.clone().unwrap_or_default();
                    tracing::error!(reason, "the ledger is broken: serving stops");
                    return Err(Stop::new(exit::SOFTWARE, format!("serving stopped: {reason}")));
                }
            }
        }
    }
}

async fn reload(server: &Arc<Server>, source: &Source) {
    let (server, source) = (Arc::clone(server), source.clone());
    let reloading = tokio::task::spawn_blocking(move || {
        let mut config = source.load().map_err(|stop| stop.reason)?.config;
        raise_open_files(&mut config);
        server.reload(config).map_err(|error| error.to_string())
    });
    match reloading.await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::error!(reason, "reload refused; everything stays as it was"),
        Err(_) => tracing::error!("reload failed; everything stays as it was"),
    }
}
