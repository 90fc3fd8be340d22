//! `run`: from a configuration to a serving server, and down again in order.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::backup::remove_stale;
use super::confinement::{Confinement, lock_memory};
use super::open::{self, How, OpenBank, list_memory, pepper_file, sqlite_path};
use super::process::{log_panics, overheard};
use super::quick_start::{self, Made};
use super::signals::{Reloading, Signals};
use super::stop::{Stop, exit};
use super::{Source, issuing, questions, supervisor};
use crate::bank::Bank;
use crate::config::{Config, Loaded};
use crate::domain::{TerminalName, Timestamp};
use crate::limits;
use crate::operator::socket::Socket;
use crate::operator::{Desk, Floor};
use crate::server::Server;
use crate::server::tls::Trust;
use crate::store::sqlite::SqliteStore;
use crate::store::{Act, Done, Event, IssuedRecord, Note, Office, StoreError};
use crate::surroundings::Surroundings;
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
    /// `--accept-loss`
    pub accept_loss: Option<String>,
    /// What the process has given up already.
    pub confinement: Confinement,
}

struct RunningFloor {
    server: Arc<Server>,
    on_loopback: bool,
}

impl Floor for RunningFloor {
    fn set_disabled(&self, terminal: &TerminalName, disabled: bool) {
        self.server.set_disabled(terminal, disabled);
    }

    fn revoke(&self, terminal: &TerminalName, revoked: &[IssuedRecord]) -> Result<(), String> {
        let revoked = self.server.revoke(terminal, revoked);
        revoked.map_err(|error| error.to_string())
    }

    fn connected(&self) -> BTreeMap<TerminalName, (usize, Timestamp)> {
        self.server.connected()
    }

    fn is_open(&self) -> bool {
        true
    }

    fn ends_between(&self, now: Timestamp, then: Timestamp) -> Option<Vec<String>> {
        Some(self.server.ends_between(now, then))
    }

    fn serves_others_than_this_machine(&self) -> bool {
        !self.on_loopback
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
    let _kept = overheard()?;
    // The log ends last, so that it holds everything.
    let _log = start_log(config.log.format, config.log.level);
    log_panics();
    options.confinement.log();
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
    if let Some(fault) = questions::places(&config).into_iter().next() {
        return Err(fault);
    }
    let clock = open::clock(&config)?;
    let surroundings: Arc<dyn Surroundings> = Arc::clone(&clock) as _;
    let mut trust = Trust::load(&config.tls, &surroundings)?;
    list_memory(&config)?.refuse_to_go_back(&trust)?;
    let how = How {
        make: true,
        accept_loss: options.accept_loss.as_deref(),
        ..How::default()
    };
    let open = OpenBank::open_with(&config, &how, clock)?;
    let told = open.bank().tell_of_start().await;
    told.map_err(|error| unwritten(&error))?;
    if issuing::make_good(&config, trust.enrolment.as_deref(), &open.bank()).await? {
        trust = Trust::load(&config.tls, &surroundings)?;
    }
    if open.made_store && !quick {
        let store = sqlite_path(&config)?;
        let store = std::path::absolute(&store).unwrap_or(store);
        tracing::warn!(
            "there was no store {}: a new and empty one was made",
            store.display()
        );
    }
    if quick && open.made_store {
        quick_start::import_demo(&config, &open, &mut made).await?;
    }
    let demo = demo_accounts(&config, &open.bank()).await?;
    made.demo_is_there = demo > 0 && (quick || options.source.file.is_none());
    remove_stale(&sqlite_path(&config)?);
    // Keys and peppers are in memory now.
    lock_memory().log();
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
        .map_err(|error| Stop::by_store("the terminals cannot be read", &error))?
        .into_iter()
        .collect();
    let doors = Doors::open(&config)?;
    let mut signals = Signals::new()?;
    let metrics = Arc::new(Metrics::default());
    let (for_server, memory) = (config.clone(), list_memory(&config)?);
    let server = Server::new(Arc::clone(&bank), metrics, for_server, trust, disabled);
    let server = Arc::new(server.remembering_lists(memory));
    let peppers = pepper_file(&config);
    let floor = Arc::new(RunningFloor {
        server: Arc::clone(&server),
        on_loopback: doors.address.ip().is_loopback(),
    });
    let desk = Desk::new(Arc::clone(&bank), floor).with_pepper_file(Arc::clone(&peppers));
    let desk = Arc::new(desk);
    let accepting = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.accept(doors.terminals).await }
    });
    let address = doors.address;
    let others = background(&bank, &server, desk, (doors.staff, doors.monitors, address));
    record_start(&bank, address).await?;
    announce(address, &config, made)?;
    let reloading = Reloading {
        server: Arc::clone(&server),
        bank: Arc::clone(&bank),
        source: options.source.clone(),
        peppers,
    };
    let ending = signals.wait(&reloading).await;
    supervisor::report_stopping().await;
    tracing::info!(connections = server.connections(), "going down");
    let drained = server.drain().await;
    tracing::info!(drained, "stopped");
    accepting.abort();
    for task in others {
        task.abort();
        // Waited for, so that the operator's socket is gone and the store closed behind us.
        let _ = task.await;
    }
    record_stop(&bank, &ending).await;
    ending
}

/// What runs beside the doors of the terminals: sweeping, staff, certificates, monitoring.
fn background(
    bank: &Arc<Bank>,
    server: &Arc<Server>,
    desk: Arc<Desk>,
    (staff, monitors, address): (Socket, Option<TcpListener>, SocketAddr),
) -> [JoinHandle<()>; 6] {
    let (sweeping, reporting, timed) = (Arc::clone(bank), Arc::clone(bank), Arc::clone(bank));
    let (watching, monitored) = (Arc::clone(server), Arc::clone(server));
    [
        tokio::spawn(async move { timed.keep_clock().await }),
        tokio::spawn(async move { sweeping.keep_sweeping().await }),
        tokio::spawn(async move {
            tokio::join!(desk.resume_clock(), staff.serve(Arc::clone(&desk)));
        }),
        tokio::spawn(async move { watching.keep_watching().await }),
        tokio::spawn(async move {
            if let Some(listener) = monitors {
                monitored.serve_metrics(listener).await;
            }
        }),
        tokio::spawn(async move { supervisor::report(&reporting, address).await }),
    ]
}

async fn record_start(bank: &Bank, address: SocketAddr) -> Result<(), Stop> {
    let version = env!("CARGO_PKG_VERSION");
    let note = Note::new(Event::Start, bank.surroundings().now());
    let note = note.detail(format!("version {version}, {address}"));
    bank.note(note).await.map_err(|error| unwritten(&error))
}

/// That the audit log cannot be written.
pub(super) fn unwritten(error: &StoreError) -> Stop {
    Stop::by_store("the audit log cannot be written", error)
}

/// The last records: what waits, what was counted, and the end itself.
async fn record_stop(bank: &Bank, ending: &Result<(), Stop>) {
    let note = Note::new(Event::Stop, bank.surroundings().now());
    let note = match ending {
        Ok(()) => note,
        Err(stop) => note.outcome("failed").detail(&*stop.reason),
    };
    let written = bank.write_waiting(true).await;
    if let Err(error) = written.and(bank.note(note).await) {
        tracing::error!(%error, "the last audit records were not written");
    }
}

/// The one line on stdout that says the server is ready; everything else goes to stderr.
fn announce(address: SocketAddr, config: &Config, made: &Made) -> Result<(), Stop> {
    let failed = |error: io::Error| Stop::new(exit::IO, format!("cannot write to stdout: {error}"));
    if let Some(words) = made.words(config, address.port()) {
        io::stderr().write_all(words.as_bytes()).map_err(failed)?;
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")
        .and_then(|()| stdout.flush())
        .map_err(failed)?;
    tracing::info!(%address, "listening");
    Ok(())
}

/// How many demo accounts there are. They have public PINs, and are served on loopback only.
async fn demo_accounts(config: &Config, bank: &Bank) -> Result<u64, Stop> {
    let on_loopback = config.server.listen.ip().is_loopback();
    match bank.office(&Office::of("start"), Act::DemoAccounts).await {
        Ok(Done::Count(count)) if on_loopback || count == 0 => Ok(count),
        // There it only decides what is said.
        _ if on_loopback => Ok(0),
        Ok(Done::Count(count)) => Err(public_pins(config, count)),
        Ok(_) => Err(Stop::new(
            exit::SOFTWARE,
            "the store answered something else than was asked",
        )),
        Err(error) => Err(Stop::by_store("the accounts cannot be read", &error)),
    }
}

/// That the store has demo accounts, and would be served beyond loopback.
pub(super) fn public_pins(config: &Config, count: u64) -> Stop {
    Stop::new(
        exit::CONFIG,
        format!(
            "demo accounts, whose PINs are public, are in the store ({count}), and [server] listen {} is not loopback; \
             mend: give them other PINs (bank_server account set-pin), or listen on 127.0.0.1",
            config.server.listen
        ),
    )
}

fn listen(address: SocketAddr) -> Result<TcpListener, Stop> {
    let listener = TcpListener::from_std(bound(address)?.into());
    listener.map_err(|error| Stop::new(exit::SYSTEM, error.to_string()))
}

/// A socket that listens there.
pub(super) fn bound(address: SocketAddr) -> Result<RawSocket, Stop> {
    let bind = || -> io::Result<RawSocket> {
        let socket = RawSocket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // A restarted server takes its port again while old connections run out.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Connections take after the socket that listens; these would grow to megabytes else.
        socket.set_send_buffer_size(limits::SOCKET_BUFFER_BYTES)?;
        socket.set_recv_buffer_size(limits::SOCKET_BUFFER_BYTES)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(limits::LISTEN_BACKLOG).unwrap_or(i32::MAX))?;
        Ok(socket)
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
pub(super) fn raise_open_files(config: &mut Config) {
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
