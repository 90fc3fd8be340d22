//! One log-in at a time for each account, so that parallel tries are judged one after another: a
//! right PIN among them is not mistaken for one try too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::domain::AccountNumber;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Locks of accounts whose PIN is being looked at. Bounded by the number of connections.
#[derive(Debug, Default)]
pub(super) struct AccountLocks(Mutex<HashMap<AccountNumber, Lock>>);

/// The account's turn; dropping it lets the next one go on.
pub(super) struct Turn<'a> {
    locks: &'a AccountLocks,
    account: AccountNumber,
    guard: Option<OwnedMutexGuard<()>>,
}

impl AccountLocks {
    /// Waits for the account's turn. The order is that of asking.
    pub(super) async fn turn(&self, account: AccountNumber) -> Turn<'_> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(account).or_default())
        };
        // Made before the wait: where the asker goes away while waiting, it cleans up.
        let mut turn = Turn {
            locks: self,
            account,
            guard: None,
        };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours is the table's: nobody else waits for it or holds it.
        if locks
            .get(&self.account)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_follow_each_other_and_leave_no_lock_behind() {
        let locks = AccountLocks::default();
        let account = "zz-99999".parse().unwrap();
        let other = "zz-99998".parse().unwrap();
        let first = locks.turn(account).await;
        let _elsewhere = locks.turn(other).await;
        {
            let mut second = std::pin::pin!(locks.turn(account));
            let waited =
                tokio::time::timeout(std::time::Duration::from_millis(5), &mut second).await;
            assert!(waited.is_err());
        }
        drop(first);
        drop(locks.turn(account).await);
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
