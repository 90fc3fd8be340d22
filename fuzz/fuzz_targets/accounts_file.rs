//! The file that accounts are imported from.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::accounts_file(bytes));
