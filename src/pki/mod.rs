//! The bank's certificates: its authority, the server's and the terminals' certificates, and the
//! list of revoked ones.
//!
//! [`IssuingAuthority`] signs for terminals that enrol themselves; a [`SigningRequest`] is what
//! they send. [`CertificateFolder`] is what `gen-certs` and the quick start use: it works on a folder of files.
//! [`Authority`] works in memory, so tests can issue what no folder would hold, such as a
//! certificate that has ended or carries two names. [`terminal_name`] and its neighbours read
//! certificates that came from outside; they never panic and trust nothing.
//!
//! Certificates follow RFC 5280 as strict verifiers read it: ECDSA P-256, subject and authority key
//! identifiers, critical key usage, random positive serials of 16 octets.

mod authority;
mod error;
mod facts;
mod files;
mod folder;
mod issuance;
mod issuing;
mod issuing_files;
mod making;
mod names;
mod reading;
mod register;
mod report;
mod request;
mod revocation;
mod show;
mod signature;
mod signing_request;
#[cfg(test)]
mod tests;

pub use authority::{
    AUTHORITY_DAYS, Authority, CLOCK_SKEW, IssuedCertificate, LEAF_DAYS, REVOCATION_LIST_DAYS,
};
pub use error::{FactsError, NameError, PkiError, SigningRequestError, TerminalFileError};
pub use facts::{
    CertificateFacts, ListNumber, RevocationListFacts, Revoked, Serial, issued_by, spki_sha256,
    terminal_name, validity,
};
pub use folder::CertificateFolder;
pub use issuing::{EnrolledCertificate, IssuingAuthority};
pub use issuing_files::ISSUING_NAME;
pub use making::MakeRequest;
pub use names::{InvalidServerName, ServerName, TERMINAL_URI, terminal_uri};
pub use reading::{
    RevocationList, damaged, read_authorities, read_certificates, read_lists, read_private_key,
    signed_by_one_of,
};
pub use report::{
    Action, CertificateReport, IssueReport, ItemReport, RevocationListReport, RevokeReport,
    RevokedReport, ShowReport, Standing, Subject,
};
pub use request::{AlternativeName, CertificateRequest, RevocationRequest, Usage};
pub use signing_request::{SIGNING_REQUEST_BYTES_MAX, SigningRequest};
