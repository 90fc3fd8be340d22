//! The front door: accept, permit, TLS under a deadline, then a task of its own for each peer.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Signals};
use super::dialogue::{Dialogue, Peer, Shared};
use super::hello::{Came, shake_hands};
use super::metered::{Below, Budgets, Metered, Watch, meter};
use super::registry::Chain;
use super::tls::{Trust, chain_ends, renews_itself, terminal_of};
use super::turns::Payer;
use super::wiped::WipedReads;
use super::{Live, Server};
use crate::access::throttle::{AddressBlock, AddressPlace, Requester};
use crate::domain::TerminalName;
use crate::limits;
use crate::telemetry::Metrics;
use crate::wire::ALPN;
use crate::wire::answer::Answer;
use crate::wire::code::Code;

/// What a connection holds while it is open; dropping it gives everything back.
struct Place {
    _permit: OwnedSemaphorePermit,
    _address: AddressPlace,
    /// All places were taken: it is only to be told so.
    full: bool,
    counted: Counted,
}

/// A connection in the metrics.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.dec();
        if std::thread::panicking() {
            self.0.count_panic();
        }
    }
}

impl Server {
    /// Accepts until the server is drained. Never waits for a peer.
    pub async fn accept(self: &Arc<Self>, listener: TcpListener) {
        let mut shortage = Shortage::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.receive(stream, address),
                Err(error) if is_peers_fault(&error) => self.metrics.count_refused("aborted"),
                Err(error) => {
                    // Out of file descriptors or memory: others may end meanwhile.
                    self.metrics.count_refused("no file for it");
                    shortage.say(&error);
                    tokio::time::sleep(limits::ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn receive(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let live = self.live.load_full();
        let place = match self.place(&live, address) {
            Ok(place) => place,
            Err(reason) => {
                self.metrics.count_refused(reason);
                tracing::debug!(%address, reason, "connection refused");
                return;
            }
        };
        let connection = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let server = Arc::clone(self);
        self.tasks.spawn(async move {
            let served = match prepare(&stream) {
                Ok(()) => {
                    server
                        .serve_in_turn((stream, keep_alive), address, connection, live, &place)
                        .await
                }
                Err(_) => Err("socket"),
            };
            if let Err(reason) = served {
                server.metrics.count_refused(reason);
                tracing::debug!(connection, %address, reason, "connection refused");
            }
            drop(place);
        });
    }

    /// Serves one peer over a stream that is no socket as [`Server::accept`] does over TCP, from
    /// its place to its end: for tests in memory.
    ///
    /// # Errors
    /// Why the peer was refused, in the metrics' words.
    pub async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        stream: S,
        address: SocketAddr,
    ) -> Result<(), &'static str> {
        let live = self.live.load_full();
        let place = self.place(&live, address)?;
        let connection = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let stream = (stream, (|_, _| {}) as Watch<S>);
        let served = self.serve_in_turn(stream, address, connection, live, &place);
        self.tasks.track_future(served).await
    }

    /// One peer, each piece of whose work waits for its turn where it must.
    async fn serve_in_turn<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        (stream, watch): (S, Watch<S>),
        address: SocketAddr,
        connection: u64,
        live: Arc<Live>,
        place: &Place,
    ) -> Result<(), &'static str> {
        let address_pays = self.rations.of(Requester::Address(address.ip().into()));
        let payer = Payer::new(address_pays);
        let stream = WipedReads(Metered::new(stream, watch, Arc::clone(&self.metrics)));
        let whose = (address, connection, &payer);
        let serving = pin!(self.serve(stream, whose, live, place));
        self.turns.take(&payer, serving).await
    }

    /// From here on the peer pays for what it sends: its terminal, or its address.
    pub(super) fn charge<S>(
        &self,
        stream: &mut TlsStream<Below<S>>,
        payer: &Payer,
        requester: Requester,
        live: &Live,
    ) {
        let ration = self.rations.of(requester);
        payer.is(Arc::clone(&ration));
        let budgets = Budgets::new(self.rations.clock, live.prices, ration);
        meter(stream).begin(budgets);
    }

    /// A place for the connection, or why there is none.
    fn place(&self, live: &Live, address: SocketAddr) -> Result<Place, &'static str> {
        let block = AddressBlock::from(address.ip());
        live.connections
            .check(&block)
            .map_err(|_| "address too fast")?;
        let per_address = live.config.server.max_connections_per_ip;
        let entered = self
            .addresses
            .enter(block, per_address)
            .ok_or("address has too many")?;
        let (permit, full) = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => (permit, false),
            Err(_) => {
                let spare = Arc::clone(&self.places_to_say_full).try_acquire_owned();
                (spare.map_err(|_| "server full")?, true)
            }
        };
        let counted = Counted::new(&self.metrics);
        Ok(Place {
            _permit: permit,
            _address: entered,
            full,
            counted,
        })
    }

    /// One peer, from its handshake to its end.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        stream: Below<S>,
        (address, connection, payer): (SocketAddr, u64, &Payer),
        live: Arc<Live>,
        place: &Place,
    ) -> Result<(), &'static str> {
        let _ = &place.counted;
        let trust = self.trust.load_full();
        // What only a handshake or an enrolment needs is in boxes of their own: a connection has no
        // room for it while it waits for customers.
        let handshake = Box::pin(timeout(
            live.config.server.handshake_timeout,
            shake_hands(&trust, stream),
        ));
        let block = AddressBlock::from(address.ip());
        let bounds = self.handshake_bounds(&live);
        let in_handshake = self.handshakes.enter(connection, block, bounds);
        let came = tokio::select! {
            biased;
            () = self.draining.cancelled() => return Ok(()),
            () = in_handshake.displaced() => return Err("handshake displaced"),
            done = handshake => match done {
                Err(_) => return Err("handshake timed out"),
                Ok(Err(reason)) => return Err(reason),
                Ok(Ok(came)) => came,
            },
        };
        drop(in_handshake);
        let mut stream = match came {
            Came::ToBank(stream) => stream,
            Came::ToEnrol(mut stream) if place.full => {
                Box::pin(tell_full(&mut stream, &live)).await;
                return Err("server full");
            }
            Came::ToEnrol(mut stream) => {
                let whose = (address, connection, payer);
                let served = self.serve_enrolment(&mut stream, &trust, whose, &live);
                return Box::pin(served).await;
            }
        };
        let write_timeout = live.config.server.write_timeout;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            Box::pin(connection::close(&mut stream, write_timeout)).await;
            return Err("no ALPN");
        }
        if place.full {
            Box::pin(tell_full(&mut stream, &live)).await;
            return Err("server full");
        }
        let identity = Identity::of(&stream);
        let Some((terminal, chain)) = identity.0 else {
            return Err("no terminal's name");
        };
        let shown = Shown {
            terminal,
            chain,
            trust,
        };
        let whose = (address, connection, payer);
        self.serve_terminal(&mut stream, shown, whose, &live).await
    }

    /// Whether a terminal is let in now that it has shaken hands. The handshake may have begun before
    /// a reload, by which nobody is let in without a certificate any more, or not with this one.
    fn admits_now(
        &self,
        terminal: &TerminalName,
        chain: Option<Chain>,
        shown_to: &Arc<Trust>,
    ) -> bool {
        if self.disabled.load().contains(terminal) {
            return false;
        }
        let present = self.trust.load_full();
        let now = self.bank.surroundings().now();
        Arc::ptr_eq(&present, shown_to) || present.still_admits(&chain.unwrap_or_default(), now)
    }

    fn shared(&self, live: &Live) -> Shared {
        Shared {
            bank: Arc::clone(&self.bank),
            logins: Arc::clone(&live.logins),
            sprays: Arc::clone(&self.sprays),
            metrics: Arc::clone(&self.metrics),
            lines: Arc::clone(&self.lines),
        }
    }

    async fn serve_terminal<S: AsyncRead + AsyncWrite + Unpin>(
        self: &Arc<Self>,
        stream: &mut TlsStream<Below<S>>,
        shown: Shown,
        (address, connection, payer): (SocketAddr, u64, &Payer),
        live: &Live,
    ) -> Result<(), &'static str> {
        let Shown {
            terminal,
            chain,
            trust,
        } = shown;
        let expelled = CancellationToken::new();
        let server = &live.config.server;
        let (requester, between) = match &chain {
            Some(_) => (Requester::Terminal(terminal.clone()), live.silent()),
            None => (Requester::Address(address.ip().into()), live.logged_in()),
        };
        self.charge(stream, payer, requester.clone(), live);
        // Entered before it is asked whether it is let in, so that no change falls in between.
        let registered = self.registry.enter(
            connection,
            terminal.clone(),
            chain.clone().unwrap_or_default(),
            expelled.clone(),
            self.terminal_share(),
            self.bank.surroundings().now(),
        );
        let Some(registered) = registered else {
            Box::pin(tell_full(stream, live)).await;
            return Err("terminal has too many");
        };
        let staffs = chain.as_deref().filter(|chain| !renews_itself(chain));
        let ends = staffs.and_then(chain_ends);
        let admitted = self.admits_now(&terminal, chain, &trust);
        drop(trust);
        if !admitted {
            Box::pin(connection::close(stream, server.write_timeout)).await;
            return Err("terminal not let in");
        }
        let said = self.lines.admit(&requester);
        if said {
            tracing::info!(connection, %address, %terminal, "connected");
        }
        self.warn_of_terminal(&terminal, ends);
        let peer = Peer {
            terminal: terminal.clone(),
            requester,
            connection,
        };
        let dialogue = Dialogue::new(self.shared(live), peer, live.request_rate, live.times());
        let signals = Signals {
            draining: self.draining.clone(),
            expelled: expelled.clone(),
        };
        connection::serve(stream, dialogue, live.terms(between), signals).await;
        drop(registered);
        let expelled = expelled.is_cancelled();
        if said || expelled {
            tracing::info!(connection, %terminal, expelled, "disconnected");
        }
        Ok(())
    }
}

/// What a handshake has shown: a terminal, with its chain or anonymous, to whom it was shown by what
/// the server trusted then.
struct Shown {
    terminal: TerminalName,
    chain: Option<Chain>,
    trust: Arc<Trust>,
}

/// Who a handshake has shown the peer to be: a terminal with its chain, or anonymous.
struct Identity(Option<(TerminalName, Option<Chain>)>);

impl Identity {
    fn of<S>(stream: &TlsStream<S>) -> Self {
        Self(match stream.get_ref().1.peer_certificates() {
            None => Some((TerminalName::anonymous(), None)),
            Some(chain) => terminal_of(chain).map(|terminal| (terminal, Some(chain.into()))),
        })
    }
}

async fn tell_full<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut TlsStream<Below<S>>,
    live: &Live,
) {
    use tokio::io::AsyncWriteExt as _;
    let mut out = Vec::new();
    if Answer::refused(None, Code::Full)
        .append_frame(&mut out)
        .is_ok()
    {
        let write_timeout = live.config.server.write_timeout;
        if let Ok(Ok(())) = timeout(write_timeout, stream.write_all(&out)).await {
            connection::close(stream, write_timeout).await;
        }
    }
}

/// The system refuses to accept: said when it begins, and now and then while it lasts.
#[derive(Default)]
struct Shortage {
    said_at: Option<Instant>,
    unsaid: u64,
}

impl Shortage {
    fn say(&mut self, error: &io::Error) {
        let said = self.said_at.map(|at| at.elapsed());
        if said.is_some_and(|ago| ago < limits::ACCEPT_WARNING_INTERVAL) {
            self.unsaid = self.unsaid.saturating_add(1);
            return;
        }
        tracing::warn!(%error, unsaid = self.unsaid, "cannot accept");
        (self.said_at, self.unsaid) = (Some(Instant::now()), 0);
    }
}

/// Small answers leave at once, and dead peers are found.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    probe(stream, None)
}

/// As [`probe`]; where the system refuses, as for a peer that is gone, it stays as it was.
fn keep_alive(stream: &TcpStream, lost_after: Option<Duration>) {
    let _ = probe(stream, lost_after);
}

/// Has the system look whether the peer lives: soon and often where it is to be lost by then, and
/// what it does not acknowledge by then too; else now and then.
fn probe(stream: &TcpStream, lost_after: Option<Duration>) -> io::Result<()> {
    let (time, interval) = match lost_after {
        None => (limits::KEEPALIVE_IDLE, limits::KEEPALIVE_INTERVAL),
        Some(after) => {
            let time = limits::KEEPALIVE_SESSION_IDLE.min(after / 2);
            (time, (after - time) / 2)
        }
    };
    // The system counts in whole seconds.
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(time.max(second))
        .with_interval(interval.max(second))
        .with_retries(limits::KEEPALIVE_PROBES);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(lost_after)
}

/// The peer went away before it was accepted; nothing of ours is short.
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
    )
}
