//! What terminals that enrol themselves ask of the store.

use super::Bank;
use crate::domain::TerminalName;
use crate::store::{NewCertificate, Recorded, StoreError, Warrant};

impl Bank {
    /// For whom a certificate may be made by this warrant, for the public key with this SHA-256.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn warranted(
        &self,
        warrant: Warrant,
        key: [u8; 32],
    ) -> Result<Option<TerminalName>, StoreError> {
        let context = self.context(&TerminalName::anonymous(), None);
        self.call(self.store.warranted(warrant, key, context)).await
    }

    /// Puts a certificate on record, so that it may leave over this connection.
    ///
    /// # Errors
    /// [`StoreError`]; whether it is on record is then unknown, and it must not leave.
    pub async fn record_certificate(
        &self,
        warrant: Warrant,
        certificate: NewCertificate,
        connection: u64,
    ) -> Result<Recorded, StoreError> {
        let context = self.context(&TerminalName::anonymous(), Some(connection));
        self.call(self.store.record_certificate(warrant, certificate, context))
            .await
    }
}
