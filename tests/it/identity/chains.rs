//! Chains of certificates: who signed what, and chains that are long or lead nowhere.

use std::sync::Arc;
use std::time::Instant;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::support::{Card, Site};

/// An authority of rcgen's own making: its certificate, and what it signs with.
pub(super) type Signer = (CertificateDer<'static>, Issuer<'static, KeyPair>);

/// A certificate that would be a good terminal's, were it not for who signed it.
pub(super) fn leaf_under(signer: &Signer) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    leaf_for(ExtendedKeyUsagePurpose::ClientAuth, signer)
}

fn leaf_for(
    usage: ExtendedKeyUsagePurpose,
    signer: &Signer,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::default();
    let name = "urn:atm:terminal:terminal-1".try_into().unwrap();
    params.subject_alt_names = vec![SanType::URI(name)];
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &signer.1).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    (certificate.into(), key.into())
}

/// The authority of the site, to sign with.
pub(super) fn own_signer(site: &Site) -> Signer {
    let certs = site.path("certs");
    let certificate = CertificateDer::from_pem_file(certs.join("ca.pem")).unwrap();
    let key = std::fs::read_to_string(certs.join("ca.key")).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    let issuer = Issuer::from_ca_cert_der(&certificate, key).unwrap();
    (certificate, issuer)
}

/// An authority of the same name as the site's, with a key of its own, signed by itself.
pub(super) fn impostor(site: &Site) -> Signer {
    let (own, _) = own_signer(site);
    let (_, parsed) = X509Certificate::from_der(&own).unwrap();
    let name = parsed.subject().iter_common_name().next().unwrap();
    self_signed(name.as_str().unwrap())
}

/// An authority below the site's, signed by it, though it says that there is none below it.
pub(super) fn intermediate(site: &Site) -> Signer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &own_signer(site).1).unwrap();
    (certificate.into(), Issuer::new(params, key))
}

/// An authority that signed itself, of whatever name.
fn self_signed(name: &str) -> Signer {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.into(), Issuer::new(params, key))
}

/// A chain that leads nowhere over as many ways as fit into what TLS lets a client show: authorities
/// of one name that signed each other for all that their names say, and others in between.
pub(crate) fn maze(
    usage: ExtendedKeyUsagePurpose,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let walls: Vec<Signer> = (0..9).map(|_| self_signed("nowhere")).collect();
    let (leaf, key) = leaf_for(usage, &walls[0]);
    let mut chain = vec![leaf];
    chain.extend(walls.into_iter().map(|(certificate, _)| certificate));
    let junk = self_signed("j").0;
    let room = 60_000 - chain.iter().map(|one| one.len() + 5).sum::<usize>();
    chain.extend(std::iter::repeat_n(junk.clone(), room / (junk.len() + 5)));
    (chain, key)
}

#[tokio::test]
async fn a_maze_of_certificates_is_refused_at_once_and_holds_nobody_up() {
    let site = Site::new();
    let server = site.start();
    let certs = site.path("certs");
    let mut other = server.terminal("terminal-2").await;
    other.ping().await.expect_code(0);
    let (chain, key) = maze(ExtendedKeyUsagePurpose::ClientAuth);
    assert!(chain.len() > 100);
    let lost = Arc::new(Card::presenting(&certs, chain, key));
    let mut worst = std::time::Duration::ZERO;
    let mut lost_ones = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (lost, address) = (Arc::clone(&lost), server.address);
        lost_ones.spawn(async move { lost.knock(address).await });
    }
    while let Some(heard) = lost_ones.try_join_next().map_or_else(
        || (!lost_ones.is_empty()).then_some(None),
        |heard| Some(Some(heard.unwrap())),
    ) {
        assert!(heard.is_none_or(|heard| heard.is_empty()));
        let began = Instant::now();
        other.ping().await.expect_code(0);
        worst = worst.max(began.elapsed());
    }
    // Crafted ones take seconds where all ways are tried.
    assert!(worst < std::time::Duration::from_secs(1), "{worst:?}");
}

#[tokio::test]
async fn a_good_certificate_with_much_behind_it_is_refused() {
    let site = Site::new();
    let server = site.start();
    let certs = site.path("certs");
    let file = |ending: &str| certs.join(format!("terminals/terminal-1.{ending}"));
    let own = CertificateDer::from_pem_file(file("pem")).unwrap();
    let junk = self_signed("j").0;
    for (more, let_in) in [(0, true), (2, true), (3, false), (50, false)] {
        let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
        let chain = std::iter::once(own.clone()).chain(std::iter::repeat_n(junk.clone(), more));
        let card = Card::presenting(&certs, chain.collect(), key);
        let heard = card.knock(server.address).await;
        assert_eq!(!heard.is_empty(), let_in, "{more} behind it");
    }
}
