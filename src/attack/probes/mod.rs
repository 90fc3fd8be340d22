//! The probes, a file for each family; two for the two large ones.

pub(super) mod certificates;
pub(super) mod enumeration;
pub(super) mod flood;
pub(super) mod frames;
pub(super) mod guessing;
pub(super) mod haste;
pub(super) mod json;
pub(super) mod leaks;
pub(super) mod money;
pub(super) mod order;
pub(super) mod records;
pub(super) mod sessions;
pub(super) mod tls;
