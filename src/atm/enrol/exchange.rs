//! One request under `enroll/1` and its answer, and what a certificate from the bank must be.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::atm::connection::{Deadlines, ms, stream_error};
use crate::atm::error::Error;
use crate::atm::trust::terminal_name;
use crate::domain::TerminalName;
use crate::wire::code::Code;
use crate::wire::enroll::{EnrolAnswer, EnrolRequest};
use crate::wire::frame::{self, HEADER_BYTES, Next, SERVER_PAYLOAD_BYTES_MAX};

/// No request of enrolment is larger.
const REQUEST_BYTES_MAX: usize = 4_096;
/// The only request of its connection.
const ID: u64 = 1;

/// The signing request of a key; it asks for no name, because the code's is what comes.
pub(super) fn signing_request(key: &KeyPair) -> Result<Vec<u8>, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(key);
    request
        .map(|request| request.der().to_vec())
        .map_err(|error| Error::Settings(format!("no signing request can be made: {error}")))
}

/// Asks over a connection whose peer has proved to be the bank.
pub(super) async fn ask(
    stream: &mut TlsStream<TcpStream>,
    request: &EnrolRequest,
    deadlines: &Deadlines,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES_MAX));
    frame::append(&mut bytes, REQUEST_BYTES_MAX, |out| request.encode(ID, out))
        .map_err(|error| Error::Lost(error.to_string()))?;
    let exchange = async {
        // Where the bank takes nothing more, it has said why, and that can still be read.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        receive(stream).await
    };
    let answer = timeout(ms(deadlines.answer_ms), exchange).await;
    let answer = answer.map_err(|_| Error::Lost("no answer in time".into()))??;
    if answer.code != Code::Done {
        return Err(refusal(&answer));
    }
    let chain = answer.chain().filter(|_| answer.id == Some(ID));
    let chain = chain.ok_or_else(|| Error::Lost("the bank's answer cannot be read".into()))?;
    Ok(chain.into_iter().map(CertificateDer::from).collect())
}

async fn receive(stream: &mut TlsStream<TcpStream>) -> Result<EnrolAnswer, Error> {
    let mut received = Vec::new();
    loop {
        match frame::next(&received, SERVER_PAYLOAD_BYTES_MAX) {
            Ok(Next::Whole { end }) => {
                let answer = received.get(HEADER_BYTES..end).and_then(EnrolAnswer::parse);
                return answer
                    .ok_or_else(|| Error::Lost("the bank's answer cannot be read".into()));
            }
            Ok(Next::Needs { more }) => received.reserve(more),
            Err(error) => return Err(Error::Lost(error.to_string())),
        }
        match stream.read_buf(&mut received).await {
            Ok(0) => return Err(Error::Lost("the bank closed it".into())),
            Ok(_) => {}
            Err(error) => return Err(stream_error(&error)),
        }
    }
}

fn refusal(answer: &EnrolAnswer) -> Error {
    match answer.code {
        Code::Full | Code::GoingDown => Error::Closing(answer.code),
        Code::NoMatch => Error::Refused(
            "it gives no certificate: a code is wrong, used or over, or this terminal is disabled \
             or revoked; mend: ask the bank for a new code"
                .into(),
        ),
        Code::TooMany => Error::Refused(format!(
            "too many tries; try again in {} s",
            answer.retry_after_ms.unwrap_or(0).div_ceil(1_000)
        )),
        code => Error::Refused(format!("code {}: {}", code.number(), code.message())),
    }
}

/// Makes sure that the chain is a client's, under these roots, for this key; gives the name in it.
pub(super) fn check(
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
    roots: Arc<RootCertStore>,
) -> Result<TerminalName, Error> {
    let useless = |why: &str| Error::NotTheBank(format!("the certificate it gave {why}"));
    let (own, others) = chain.split_first().ok_or_else(|| useless("is not there"))?;
    let spki = X509Certificate::from_der(own).map(|(_, own)| own.public_key().raw.to_vec());
    if spki.ok() != Some(key.subject_public_key_info()) {
        return Err(useless("is not for this terminal's key"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Error::Settings(error.to_string()))?;
    verifier
        .verify_client_cert(own, others, UnixTime::now())
        .map_err(|error| useless(&format!("cannot be used: {error}")))?;
    terminal_name(own)
        .filter(|name| !name.is_anonymous())
        .ok_or_else(|| useless("names no terminal"))
}
