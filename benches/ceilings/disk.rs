//! Appends of a page, each synced, to a file that grows.

use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use serde_json::json;

use crate::took::Took;
use crate::{Arguments, folder, print};

const PAGE: [u8; 4_096] = [7; 4_096];

pub(crate) fn measure(arguments: &Arguments) {
    let folder = folder();
    let mut file = File::create(folder.path().join("appended")).unwrap();
    let (mut took, mut count) = (Took::default(), 0);
    let began = Instant::now();
    while began.elapsed() < arguments.span() {
        let one = Instant::now();
        file.write_all(&PAGE).unwrap();
        file.sync_data().unwrap();
        took.record(one.elapsed());
        count += 1;
    }
    print(json!({ "part": "disk" }), &took, count, began.elapsed());
}
