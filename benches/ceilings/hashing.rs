//! argon2id with the shipped cost, on so many threads, each with memory of its own.

use std::thread;
use std::time::Instant;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde_json::json;

use crate::took::Took;
use crate::{Arguments, print};

pub(crate) fn measure(arguments: &Arguments) {
    let span = arguments.span();
    let work = move || {
        let params = Params::new(19_456, 2, 1, Some(32)).unwrap();
        let mut memory = vec![Block::default(); params.block_count()];
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let (mut took, mut count) = (Took::default(), 0_u64);
        let began = Instant::now();
        while began.elapsed() < span {
            let (one, mut digest) = (Instant::now(), [0; 32]);
            let salt = [7; 16];
            hasher
                .hash_password_into_with_memory(b"739105", &salt, &mut digest, &mut memory)
                .unwrap();
            took.record(one.elapsed());
            count += 1;
        }
        (took, count)
    };
    let began = Instant::now();
    let threads: Vec<_> = (0..arguments.threads)
        .map(|_| thread::spawn(work))
        .collect();
    let (mut all, mut hashes) = (Took::default(), 0);
    for thread in threads {
        let (took, count) = thread.join().unwrap();
        all.add(&took);
        hashes += count;
    }
    let what = json!({ "part": "argon2", "threads": arguments.threads });
    print(what, &all, hashes, began.elapsed());
}
