//! A request read, written and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::request(bytes));
