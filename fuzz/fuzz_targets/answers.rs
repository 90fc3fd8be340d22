//! What a terminal reads: a hostile bank's answers, and its own journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| atm_bank::fuzzing::answers(bytes));
