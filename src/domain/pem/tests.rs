use super::*;
use proptest::prelude::*;

/// An element of DER of so many octets of content.
fn element(seed: u8, octets: usize) -> Vec<u8> {
    let mut der = vec![SEQUENCE, 0x82];
    der.extend_from_slice(&u16::try_from(octets).unwrap().to_be_bytes());
    der.extend((0..octets).map(|place| u8::try_from(place % 251).unwrap().wrapping_mul(seed | 1)));
    der
}

fn lists(text: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let found = read(text, Wanted::RevocationLists)?;
    Ok(found.into_iter().map(|block| block.der).collect())
}

fn older_and_newer() -> (Vec<u8>, Vec<u8>) {
    (element(3, 300), element(5, 400))
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, line: impl Into<Option<usize>>, words: &str) {
    let fault = lists(text.as_ref()).unwrap_err();
    assert_eq!(fault.line, line.into(), "{fault}");
    assert!(fault.to_string().contains(words), "no {words:?} in {fault}");
}

#[test]
fn all_blocks_count_and_what_explains_them_passes() {
    let (older, newer) = older_and_newer();
    let text = format!(
        "Bag Attributes\n    friendlyName: b\u{e4}nk -- main\n    localKeyID: 54 69 6D 65 20 31\n\
         Key Attributes: <No Attributes>\n# ===== our CA ===== (see mk-certs.sh, begin 2026)\n\
         subject=C = US, O = Bank, CN = ca-1\n{}\n----- the newer -----\n        \
         30:45:02:21:00:e5:9e:c3\n{}# {}\n--\n",
        revocation_list(&older),
        revocation_list(&newer),
        "0123456789abcdef".repeat(4)
    );
    assert_eq!(
        lists(text.as_bytes()).unwrap(),
        [older.clone(), newer.clone()]
    );
    let windows = text.replace('\n', "\r\n");
    assert_eq!(lists(windows.as_bytes()).unwrap(), [older.clone(), newer]);
    let one_line = format!(
        "-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----",
        STANDARD.encode(&older)
    );
    assert_eq!(lists(one_line.as_bytes()).unwrap(), [older]);
}

#[test]
fn a_newer_list_that_other_readers_skip_is_refused_with_its_line() {
    let (older, newer) = older_and_newer();
    let (older, newer) = (revocation_list(&older), revocation_list(&newer));
    let lines = older.lines().count();
    // `cat a b` where a has no newline at its end.
    refused(
        format!("{}{newer}", older.trim_end()),
        lines,
        "does not end the block",
    );
    let each_line = |prefix: &str| -> String {
        let quoted = newer.lines().map(|line| format!("{prefix}{line}\n"));
        older.clone() + &quoted.collect::<String>()
    };
    for prefix in ["  ", "\t", "> ", "| ", "# ", ">>", "\u{a0}", "\""] {
        refused(each_line(prefix), lines + 1, "looks like the frame");
    }
    refused(format!("\u{feff}{newer}"), 1, "byte-order mark");
    refused(
        format!("{older}\u{feff}{newer}"),
        lines + 1,
        "looks like the frame",
    );
    for (from, to) in [
        ("BEGIN X509 CRL", "begin x509 crl"),
        ("BEGIN", "Begin"),
        ("-----BEGIN", "----BEGIN"),
        ("-----BEGIN", "------BEGIN"),
        ("-----BEGIN", "\u{2014}\u{2014}-BEGIN"),
        ("-----BEGIN ", "-----BEGIN"),
        ("-----BEGIN ", "-----BEGIN  "),
        ("-----BEGIN ", "----- "),
    ] {
        let newer = newer.replacen(from, to, 1);
        let fault = lists((older.clone() + &newer).as_bytes()).unwrap_err();
        assert_eq!(fault.line, Some(lines + 1), "{to}: {fault}");
    }
}

#[test]
fn what_has_lost_its_frame_or_is_no_pem_is_refused() {
    let (older, newer) = older_and_newer();
    let (older, newer) = (revocation_list(&older), revocation_list(&newer));
    let lines = older.lines().count();
    let no_frame: String = newer
        .lines()
        .skip(1)
        .map(|line| format!("> {line}\n"))
        .collect();
    refused(
        older.clone() + &no_frame,
        lines + 1,
        "looks like the content",
    );
    let (begin, rest) = newer.split_once('\n').unwrap();
    refused(
        format!("{older}{begin}\n{older}{rest}"),
        lines + 2,
        "does not end",
    );
    refused(older.replace('\n', "\r"), 1, "carriage return");
    refused(
        older.replace("CRL", "CERT"),
        1,
        "X509 CERT in a file of revocation lists",
    );
    refused("", None, "no revocation list");
    refused(element(3, 300), None, "openssl crl -inform DER");
    let wide: Vec<u8> = older.bytes().flat_map(|octet| [0, octet]).collect();
    refused(wide, 1, "control character");
}

#[test]
fn what_was_cut_or_glued_within_a_block_is_refused() {
    let (older, newer) = older_and_newer();
    let both = [older.clone(), newer].concat();
    refused(revocation_list(&both), 1, "one whole element");
    refused(revocation_list(&older[..300]), 1, "one whole element");
    let empty = "-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n";
    refused(empty, 1, "one whole element");
    let text = revocation_list(&older);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len();
    refused(lines[..last - 1].join("\n") + "\n", 1, "has no end");
    refused(lines[1..].join("\n"), 1, "looks like the content");
    refused(
        [&lines[..2], &[""], &lines[2..]].concat().join("\n"),
        3,
        "an empty line",
    );
    refused(
        text.replacen(lines[2], &format!(" {}", lines[2]), 1),
        3,
        "an indented line",
    );
    refused(
        text.replacen(lines[2], &format!("{},", lines[2]), 1),
        3,
        "not base64",
    );
}

#[test]
fn a_key_is_one_and_plain_with_or_without_its_curve() {
    let key = |text: &str| read(text.as_bytes(), Wanted::PrivateKey);
    let curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let sec1 = written("EC PRIVATE KEY", &element(7, 120));
    assert_eq!(
        key(&format!("{curve}{sec1}")).unwrap()[0].der,
        element(7, 120)
    );
    assert_eq!(key(&sec1).unwrap()[0].line, 1);
    let says = |text: &str, words: &str| {
        let fault = key(text).unwrap_err().to_string();
        assert!(fault.contains(words), "{fault}");
    };
    says(curve, "no private key");
    says(&format!("{sec1}{sec1}"), "a second key");
    says(
        &written("ENCRYPTED PRIVATE KEY", &element(7, 120)),
        "line 1: the key is encrypted",
    );
    let legacy = sec1.replacen(
        "KEY-----\n",
        "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\n",
        1,
    );
    says(&legacy, "line 2: the key is encrypted");
    says(
        &(sec1.clone() + &certificate(&element(3, 300))),
        "CERTIFICATE in a file of one private key",
    );
    assert_eq!(format!("{:?}", key(&sec1).unwrap()), "[Block of line 1]");
}

/// One thing that happens to files.
#[derive(Debug, Clone)]
enum Mishap {
    Cut(usize, usize),
    Paste(usize, &'static str),
    Quote(usize, usize, &'static str),
    Lower(usize, usize),
    Windows,
    NoNewlines(usize, usize),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let place = 0_usize..4_000;
    let pasted = [
        "\u{feff}", "\n", "\r", " ", "-", "-----", "\n\n", "\0", "BEGIN", "=", "A", "# x\n",
    ];
    prop_oneof![
        (place.clone(), 0_usize..600).prop_map(|(at, length)| Mishap::Cut(at, length)),
        (place.clone(), prop::sample::select(pasted.to_vec()))
            .prop_map(|(at, text)| Mishap::Paste(at, text)),
        (
            0_usize..30,
            1_usize..30,
            prop::sample::select(vec!["> ", "  ", "\t", "# ", "* "])
        )
            .prop_map(|(from, count, sign)| Mishap::Quote(from, count, sign)),
        (place.clone(), 0_usize..200).prop_map(|(at, length)| Mishap::Lower(at, length)),
        Just(Mishap::Windows),
        (place, 1_usize..200).prop_map(|(at, length)| Mishap::NoNewlines(at, length)),
    ]
}

fn happen(mut text: Vec<u8>, mishap: &Mishap) -> Vec<u8> {
    let range = |text: &[u8], at: usize, length: usize| {
        let from = at % (text.len() + 1);
        from..(from + length).min(text.len())
    };
    match mishap {
        Mishap::Cut(at, length) => {
            let cut = range(&text, *at, *length);
            text.drain(cut);
        }
        Mishap::Paste(at, pasted) => {
            let at = at % (text.len() + 1);
            text.splice(at..at, pasted.bytes());
        }
        Mishap::Quote(from, count, sign) => {
            let lines = text.split(|octet| *octet == b'\n').enumerate();
            let quoted = lines.map(|(number, line)| {
                let is_in = (*from..from + count).contains(&number);
                [if is_in { sign.as_bytes() } else { b"" }, line].concat()
            });
            text = quoted.collect::<Vec<_>>().join(&b'\n');
        }
        Mishap::Lower(at, length) => {
            let lowered = range(&text, *at, *length);
            // Of frames: within the content it makes another list of it, which its signature tells.
            if text[lowered.clone()].contains(&b'-') {
                text[lowered].make_ascii_lowercase();
            }
        }
        Mishap::Windows => {
            text = String::from_utf8_lossy(&text)
                .replace('\n', "\r\n")
                .into_bytes();
        }
        Mishap::NoNewlines(at, length) => {
            let joined = range(&text, *at, *length);
            let kept = text[joined.clone()]
                .iter()
                .copied()
                .filter(|octet| *octet != b'\n');
            let kept: Vec<u8> = kept.collect();
            text.splice(joined, kept);
        }
    }
    text
}

proptest! {
    /// What is left of a block after whatever mishap counts whole, or the file is refused: no octet of
    /// content is passed over in silence, but what would fit in less than one line.
    #[test]
    fn after_any_mishap_everything_counts_or_the_file_is_refused(
        mishaps in prop::collection::vec(mishap(), 1..4),
        glued in any::<bool>(),
    ) {
        let (older, newer) = older_and_newer();
        let mut first = revocation_list(&older);
        if glued {
            first.pop();
        }
        let text = (first + &revocation_list(&newer)).into_bytes();
        let text = mishaps.iter().fold(text, happen);
        if let Ok(found) = lists(&text) {
            let counted: String = found.iter().map(|list| STANDARD.encode(list)).collect();
            for line in String::from_utf8_lossy(&text).lines() {
                let digits = |c: &char| c.is_ascii() && is_of_base64(u8::try_from(*c).unwrap());
                let digits: String = line.chars().filter(digits).collect();
                prop_assert!(digits.len() < CONTENT_MIN || counted.contains(&digits), "passed over: {}", line);
            }
        }
    }

    #[test]
    fn no_text_at_all_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
        for wanted in [Wanted::Certificates, Wanted::RevocationLists, Wanted::PrivateKey] {
            let _ = read(&text, wanted);
        }
    }
}
