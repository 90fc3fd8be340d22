//! Peppers: which accounts stand on which, a new one, an old one gone.

use std::sync::Arc;

use super::{Desk, Performed, REFUSED, Report, UNAVAILABLE, unexpected};
use crate::access::pepper::PepperId;
use crate::access::pepper_file::{ChangeError, PepperFile};
use crate::access::pin::PinHasher;
use crate::store::{Act, Done, Office};
use crate::surroundings::Surroundings;

/// sysexits' EX_CONFIG.
const CONFIG: u8 = 78;
/// sysexits' EX_IOERR.
const IO: u8 = 74;

impl Desk {
    pub(super) async fn peppers(&self, office: &Office) -> Performed {
        let Done::Peppers(uses) = self.act(office, Act::Peppers).await? else {
            return Err(unexpected());
        };
        Ok(Report::peppers(&self.bank.hasher().peppers(), &uses))
    }

    /// The new pepper is on disk before the first hash is made with it.
    pub(super) async fn rotate_pepper(&self, office: &Office) -> Performed {
        self.change(|file, hasher, surroundings| file.rotate(hasher, surroundings))
            .await?;
        self.peppers(office).await
    }

    /// The store lets go first: where the rest fails, a pepper is there that nothing needs, and
    /// never the other way round.
    pub(super) async fn retire_pepper(&self, office: &Office, name: &str) -> Performed {
        let peppers = self.bank.hasher().peppers();
        let known = PepperId::parse(name).filter(|id| peppers.contains(id));
        let id = known.ok_or_else(|| Report::failed(REFUSED, "there is no such pepper"))?;
        if peppers.current() == Some(&id) {
            let reason = "new hashes are made with that pepper; mend: pepper rotate first";
            return Err(Report::failed(REFUSED, reason));
        }
        // A bounded number at once, so that customers do not wait for all of them.
        let mut after = 0;
        loop {
            let (pepper, moving) = (
                id.clone(),
                Act::MoveRows {
                    pepper: id.clone(),
                    after,
                },
            );
            let Done::Count(next) = self.act(office, moving).await? else {
                return Err(unexpected());
            };
            after = i64::try_from(next).unwrap_or(0);
            if after == 0 {
                self.act(office, Act::RetirePepper(pepper)).await?;
                break;
            }
        }
        self.change(move |file, hasher, _| file.retire(hasher, &id))
            .await?;
        self.peppers(office).await
    }

    /// Changes the file, and then what the bank hashes with, on a thread that may wait for a disk.
    async fn change(
        &self,
        work: impl FnOnce(&PepperFile, &PinHasher, &dyn Surroundings) -> Result<(), ChangeError>
        + Send
        + 'static,
    ) -> Result<(), Report> {
        let Some(file) = self.pepper_file.clone() else {
            return Err(Report::failed(UNAVAILABLE, "no pepper file is known here"));
        };
        let hasher = self.bank.hasher().clone();
        let surroundings = Arc::clone(self.bank.surroundings());
        let changing =
            tokio::task::spawn_blocking(move || work(&file, &hasher, &*surroundings)).await;
        match changing {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let code = match error {
                    ChangeError::Full { .. } => REFUSED,
                    ChangeError::Failed { .. } => IO,
                    ChangeError::Wrong(_)
                    | ChangeError::Lacks { .. }
                    | ChangeError::ReadOnly { .. } => CONFIG,
                };
                Err(Report::failed(code, error.to_string()))
            }
            Err(_) => Err(Report::failed(70, "changing the pepper file failed")),
        }
    }
}
