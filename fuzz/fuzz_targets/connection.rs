//! Whole byte streams against a server's connection, TLS and below.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::connection(bytes));
