//! Frames out of a stream, however it is split.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::decoder(bytes));
