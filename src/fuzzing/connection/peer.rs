//! Somebody at the other end of a connection: a TLS client whose bytes are in the fuzzer's hand.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, CommonState, RootCertStore};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::Input;
use super::super::vault::Vault;
use super::super::wire::Wire;
use super::bank::Hall;
use super::talk::Talk;

/// Nobody, the two terminals, and the stranger.
const IDENTITIES: [Option<usize>; 4] = [Some(0), None, Some(1), Some(2)];
const PROTOCOLS: [&[u8]; 4] = [b"atm/1", b"", b"http/1.1", b"enroll/1"];
/// Largest records, bytes.
const FRAGMENTS: [Option<usize>; 2] = [None, Some(64)];
/// What a client holds back at most.
const HELD_BYTES_MAX: usize = 1 << 20;

/// One connection, from its beginning to its end.
pub(super) struct Peer {
    pub(super) wire: Wire,
    pub(super) task: Option<JoinHandle<Result<(), &'static str>>>,
    pub(super) began: Instant,
    /// `None`: it speaks no TLS.
    tls: Option<ClientConnection>,
    pub(super) talk: Talk,
    /// What TLS has made of it and has not been sent.
    held: Vec<u8>,
    /// Nothing is sent unless it is told to.
    pub(super) holds_back: bool,
    /// What travels is no longer what TLS made.
    pub(super) spoilt: bool,
    /// The next octet that travels is changed by this.
    pub(super) spoil_next: u8,
}

impl Peer {
    /// Somebody new, whom the next byte describes.
    pub(super) fn arrive(hall: &Hall, input: &mut Input<'_>) -> Self {
        let choice = usize::from(input.byte());
        let wire = Wire::new();
        let speaks_tls = choice < 240;
        let fields = (choice % 4, choice / 4 % 4, choice / 16 % 2);
        let tls = speaks_tls.then(|| client(fields));
        let own = IDENTITIES[fields.0].is_some_and(|index| index < 2);
        Self {
            task: Some(hall.serve(wire.clone())),
            wire,
            began: Instant::now(),
            tls,
            talk: Talk::new(own && hall.asks),
            held: Vec::new(),
            holds_back: false,
            spoilt: false,
            spoil_next: 0,
        }
    }

    /// Whether the handshake has not been finished, for all that this end can see.
    pub(super) fn is_stranger(&self) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|tls| CommonState::is_handshaking(tls))
    }

    /// Whether everything said so far lies before the server and can be answered.
    pub(super) fn is_heard(&self) -> bool {
        let ends = self.wire.ends();
        let open = !self.is_stranger() && !self.spoilt && self.held.is_empty();
        open && ends.is_drained() && ends.room == usize::MAX
    }

    /// Says something within TLS.
    pub(super) fn say(&mut self, plain: &[u8]) {
        let Some(tls) = &mut self.tls else {
            self.garbage(plain);
            return;
        };
        // During the handshake it is kept by TLS and sent after it.
        if tls.writer().write_all(plain).is_ok() {
            self.talk.said(plain);
        }
        self.push();
    }

    /// Octets that no TLS has made.
    pub(super) fn garbage(&mut self, bytes: &[u8]) {
        self.spoilt |= !bytes.is_empty();
        self.wire.ends().bring(bytes);
    }

    /// Says goodbye in order.
    pub(super) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.talk.closed = true;
        self.push();
    }

    /// New keys for what this end sends, and asks for the same.
    pub(super) fn renew_keys(&mut self) {
        if let Some(tls) = &mut self.tls {
            // Before the handshake is over there are none.
            let _ = tls.refresh_traffic_keys();
        }
        self.push();
    }

    /// Sends at most so many octets of what is held back.
    pub(super) fn release(&mut self, count: usize) {
        let count = count.min(self.held.len());
        let mut sent: Vec<u8> = self.held.drain(..count).collect();
        if let Some(first) = sent.first_mut().filter(|_| self.spoil_next != 0) {
            *first ^= std::mem::take(&mut self.spoil_next);
            self.spoilt = true;
        }
        self.wire.ends().bring(&sent);
    }

    /// Takes what the server sent, and answers as TLS does.
    pub(super) fn pump(&mut self, hall: &Hall) {
        let came = std::mem::take(&mut self.wire.ends().outbound);
        let Some(tls) = &mut self.tls else {
            return;
        };
        let mut came = came.as_slice();
        while !came.is_empty() && tls.read_tls(&mut came).is_ok() {
            let Ok(state) = tls.process_new_packets() else {
                // An alert, or what the server sent upon spoilt bytes.
                break;
            };
            let mut plain = Vec::new();
            // An end in disorder is no less an end.
            let _ = tls.reader().read_to_end(&mut plain);
            self.talk.hear(&plain, hall);
            if state.peer_has_closed() {
                self.talk.over = true;
            }
        }
        self.push();
    }

    fn push(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && tls.write_tls(&mut self.held).is_ok() {}
        }
        assert!(
            self.held.len() <= HELD_BYTES_MAX,
            "the fuzzer says too much"
        );
        if !self.holds_back {
            self.release(usize::MAX);
        }
    }
}

type Fields = (usize, usize, usize);

thread_local! {
    static CLIENTS: RefCell<HashMap<Fields, Arc<ClientConfig>>> = RefCell::default();
}

fn client(fields: Fields) -> ClientConnection {
    let config = CLIENTS.with_borrow_mut(|clients| {
        let known = clients.entry(fields);
        Arc::clone(known.or_insert_with(|| Arc::new(settings(fields))))
    });
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    // What is said is said as a whole: by default what is over 64 KiB would be left out in silence.
    client.set_buffer_limit(None);
    client
}

fn settings((identity, protocol, fragment): Fields) -> ClientConfig {
    let vault = Vault::open();
    let mut roots = RootCertStore::empty();
    roots.add(vault.authority.clone()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match IDENTITIES[identity] {
        None => builder.with_no_client_auth(),
        Some(index) => {
            let own = &vault.identities[index];
            let chain = vec![own.certificate.clone()];
            let pair = builder.with_client_auth_cert(chain, own.key.clone_key());
            pair.expect("a pair")
        }
    };
    let protocols = [PROTOCOLS[protocol].to_vec()].into_iter();
    config.alpn_protocols = protocols.filter(|name| !name.is_empty()).collect();
    config.resumption = Resumption::disabled();
    config.max_fragment_size = FRAGMENTS[fragment];
    config
}
