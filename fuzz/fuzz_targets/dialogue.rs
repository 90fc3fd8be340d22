//! Terminals at the bank, judged by a model of the protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::dialogue(bytes));
