//! Holds that have expired.

use crate::domain::Timestamp;
use crate::domain::hold::HoldState;
use crate::store::state::AccountRow;
use crate::store::working::{Stop, WorkingSet};

/// Frees those of the account's loaded holds that have expired, saves the account if there were any, and
/// returns their number.
pub(in crate::store) fn expire_due(
    rows: &mut WorkingSet,
    account: &mut AccountRow,
    now: Timestamp,
) -> Result<usize, Stop> {
    if account.held == 0 {
        return Ok(0);
    }
    let mut expired = 0_usize;
    for mut row in rows.due()? {
        let Some(expiry) = row.hold.expiry(now) else {
            continue;
        };
        let amount = expiry.amount().minor();
        account.held = account.held.saturating_sub(amount);
        account.free_day(row.hold.authorized_at.business_day(), amount);
        row.hold.state = HoldState::Expired;
        rows.changes.holds.push(row);
        expired = expired.saturating_add(1);
    }
    if expired > 0 {
        rows.save(account);
    }
    Ok(expired)
}
