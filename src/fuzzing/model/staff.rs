//! What the bank's staff and time do.

use super::{HoldEnd, Model, Status};

const AMOUNT_MAX: i64 = 1_000_000_000_000;
const BALANCE_MAX: i64 = 1_000_000_000_000_000;
const LATE_MS: i64 = 30 * 86_400_000;
const KEPT_MS: i64 = 31 * 86_400_000;

/// What staff do with one account.
#[derive(Debug, Clone)]
pub(in crate::fuzzing) enum Act {
    Lock(bool),
    Close,
    SetPin(&'static str, u64),
    Limit(Option<i64>, Option<i64>),
    Adjust(i64),
}

impl Model {
    /// Whether it is done.
    pub(in crate::fuzzing) fn act(&mut self, number: &str, act: &Act) -> bool {
        let terms = crate::fuzzing::World::terms();
        let (now_ms, close) = (self.now_ms, self.may_close(number));
        let available = self.accounts.get(number).map(|_| self.available(number));
        let (Some(account), Some(available)) = (self.accounts.get_mut(number), available) else {
            return matches!(act, Act::Lock(false)) && self.tries.remove(number).is_some();
        };
        let closed = account.status == Status::Closed;
        match act {
            Act::Lock(true) if closed => return false,
            Act::Lock(true) => account.status = Status::Locked,
            Act::Lock(false) => {
                let had_tries = self.tries.remove(number).is_some();
                if closed {
                    return had_tries;
                }
                account.status = Status::Open;
            }
            Act::Close if close => account.status = Status::Closed,
            Act::SetPin(pin, valid_ms) if !closed => {
                account.pin = (*pin).to_owned();
                account.must_change_pin = true;
                account.pin_ends_ms = Some(now_ms + i64::try_from(*valid_ms).unwrap_or(i64::MAX));
                self.tries.remove(number);
            }
            Act::Limit(withdrawal, daily) => {
                account.withdrawal_limit = withdrawal.unwrap_or(terms.withdrawal_limit);
                account.daily_limit = daily.unwrap_or(terms.daily_withdrawal_limit);
            }
            Act::Adjust(amount) if !closed => {
                let small = (1..=AMOUNT_MAX).contains(&amount.saturating_abs());
                let fits = account.balance + amount <= BALANCE_MAX;
                let covered = *amount > 0 || -amount <= available;
                if !(small && fits && covered) {
                    return false;
                }
                self.entries += 1;
                self.write(number, "adjustment", *amount, "", None);
            }
            Act::Close | Act::SetPin(..) | Act::Adjust(_) => return false,
        }
        true
    }

    /// Without money, open holds, and holds that can still be captured late.
    fn may_close(&self, number: &str) -> bool {
        let own = self.holds.iter().filter(|hold| hold.account == number);
        let mut ended =
            own.map(|hold| hold.end != HoldEnd::None || hold.expires_ms + LATE_MS <= self.now_ms);
        let account = self.accounts.get(number);
        ended.all(|ended| ended)
            && account
                .is_some_and(|account| account.balance == 0 && account.status != Status::Closed)
    }

    /// Time's work: what was kept for long enough is forgotten.
    pub(in crate::fuzzing) fn sweep(&mut self) {
        let now_ms = self.now_ms;
        self.keys.retain(|_, kept| kept.at_ms >= now_ms - KEPT_MS);
        self.tries
            .retain(|_, tries| tries.at_home.at(now_ms) + tries.elsewhere.at(now_ms) > 0);
    }
}
