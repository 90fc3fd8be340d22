//! Whoever answers in the bank's place: shows certificates, hears what is said, says nothing.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Connections, and the bytes of the first message, decrypted.
type Heard = Arc<Mutex<(usize, Vec<u8>)>>;

/// Its thread ends with the test's process.
pub(super) struct FakeBank {
    pub(super) port: u16,
    heard: Heard,
}

impl FakeBank {
    /// Shows `server.pem` and `ca.pem` of this folder.
    pub(super) fn start(certificates: &Path, address: &str) -> Self {
        let file = |name: &str| certificates.join(name);
        let chain =
            ["server.pem", "ca.pem"].map(|name| CertificateDer::from_pem_file(file(name)).unwrap());
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        Self::showing(chain.to_vec(), key, address)
    }

    /// Shows these certificates.
    pub(super) fn showing(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        address: &str,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"enroll/1".to_vec(), b"atm/1".to_vec()];
        let (config, heard) = (Arc::new(config), Heard::default());
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let hears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                hears.lock().unwrap().0 += 1;
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut tls = StreamOwned::new(connection, stream.unwrap());
                let mut header = [0; 4];
                // Whoever does not trust these certificates ends the connection here.
                if tls.read_exact(&mut header).is_err() {
                    continue;
                }
                let length = usize::try_from(u32::from_be_bytes(header)).unwrap();
                let mut payload = vec![0; length];
                tls.read_exact(&mut payload).unwrap();
                let mut heard = hears.lock().unwrap();
                heard.1.extend_from_slice(&header);
                heard.1.extend_from_slice(&payload);
            }
        });
        Self { port, heard }
    }

    /// What it heard so far.
    pub(super) fn heard(&self) -> (usize, Vec<u8>) {
        self.heard.lock().unwrap().clone()
    }
}
