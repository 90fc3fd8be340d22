//! The embedded store against the reference model, through restarts and crashes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::ledger(bytes));
