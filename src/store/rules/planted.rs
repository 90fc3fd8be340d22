//! Faults that a test plants in the rules, to prove that the reference model catches them. A bank has none:
//! outside tests the question is answered `false` when it is compiled.

/// A fault that money or access could suffer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// No answer is kept for a key.
    KeyForgotten,
    /// A new business day does not give the daily limit back.
    DayNotRolled,
    /// A hold that ends is subtracted twice from what the account holds.
    HoldFreedTwice,
    /// A session that is over may still move money.
    FenceSkipped,
    /// A used key is refused before a hold that is gone.
    RefusalsSwapped,
    /// A posting's hash does not cover the one before.
    ChainNotLinked,
    /// The daily limit lets one minor unit more through.
    LimitOffByOne,
    /// Cash moves the wrong way.
    PostingReversed,
    /// A closed account receives a transfer.
    ClosedAccountPaid,
    /// A try is not counted.
    TryNotCounted,
    /// Any terminal may settle a hold.
    HoldOfAnyTerminal,
    /// A repeat shows the balances of now.
    ReplayWithPresentBalances,
}

impl Planted {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 12] = [
        Self::KeyForgotten,
        Self::DayNotRolled,
        Self::HoldFreedTwice,
        Self::FenceSkipped,
        Self::RefusalsSwapped,
        Self::ChainNotLinked,
        Self::LimitOffByOne,
        Self::PostingReversed,
        Self::ClosedAccountPaid,
        Self::TryNotCounted,
        Self::HoldOfAnyTerminal,
        Self::ReplayWithPresentBalances,
    ];

    /// Whether this process has the fault.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a bank has no faults to tell apart")]
    pub(in crate::store) const fn is_here(self) -> bool {
        false
    }

    /// Whether this process has the fault, as the environment says.
    #[cfg(test)]
    pub(in crate::store) fn is_here(self) -> bool {
        static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let planted = NAME.get_or_init(|| std::env::var("PLANTED_FAULT").ok());
        planted
            .as_ref()
            .is_some_and(|name| *name == format!("{self:?}"))
    }
}
