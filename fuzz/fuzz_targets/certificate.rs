//! Certificates and revocation lists that strangers made.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::certificate(bytes));
