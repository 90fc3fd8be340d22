//! A terminal's side of TLS, from a folder of certificates.

use std::path::Path;
use std::sync::Arc;

use atm_bank::wire::ALPN;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// TLS 1.3 without resumption, with the certificate of the terminal of that name; only the folder's
/// authority is trusted.
pub(crate) fn client_config(certs: &Path, name: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certs.join("ca.pem"));
    roots.add(authority.expect("ca.pem")).unwrap();
    let own = |ending: &str| certs.join(format!("terminals/{name}.{ending}"));
    let certificate = CertificateDer::from_pem_file(own("pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(own("key")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
