//! PEM (RFC 7468), read whole or refused.
//!
//! People cut, glue, quote and mail these files, and a reader that passes over what it does not
//! understand lets a revoked terminal in: its newer list stood there and was skipped. So this is
//! all that passes:
//!
//! - Lines end in LF or CRLF. There is no byte-order mark and no other control character than TAB.
//! - A block is a line `-----BEGIN LABEL-----`, lines of base64, and a line `-----END LABEL-----`, all
//!   of them from the first column on; blanks at a line's end are allowed. Its label is one that such
//!   a file may hold, and its content is one DER element, with nothing behind it.
//! - Outside of blocks, text that explains, such as openssl's `Bag Attributes`: any line that looks
//!   neither like the frame of a block nor like its content. A line looks like a frame where two dashes
//!   of any kind stand side by side in it and the word BEGIN or END, in any case, is next to a dash, or
//!   where exactly five dashes touch a letter or digit. A line looks like content where it is 60
//!   characters of base64 or more, after whatever signs of quoting, unless it is all hexadecimal.
//!
//! Everything else is a [`Fault`], with its line. Libraries pass over what they do not understand, so
//! one writes here, and none reads but for the base64 of a block.

use std::borrow::Cow;
use std::fmt;

use ::pem::{EncodeConfig, LineEnding, Pem, encode_config};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// From so many characters of base64 on, a line outside of blocks is taken for their content: tools
/// write lines of 64 or 76, or everything in one.
const CONTENT_MIN: usize = 60;
/// The longest label that is repeated in an error.
const LABEL_MAX: usize = 64;
const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// What a file is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// One certificate or more, and nothing else.
    Certificates,
    /// One revocation list or more, and nothing else.
    RevocationLists,
    /// Exactly one private key, not encrypted: PKCS#8, SEC1 or PKCS#1; before it, curve's parameters.
    PrivateKey,
}

impl Wanted {
    /// Whether such a file may hold a block of this label, and whether it is what it is read for.
    fn takes(self, label: &str) -> Option<bool> {
        match (self, label) {
            (Self::Certificates, "CERTIFICATE")
            | (Self::RevocationLists, "X509 CRL")
            | (Self::PrivateKey, "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY") => {
                Some(true)
            }
            // The curve's name, which the key behind it names too.
            (Self::PrivateKey, "EC PARAMETERS") => Some(false),
            _ => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Certificates => "certificates (CERTIFICATE)",
            Self::RevocationLists => "revocation lists (X509 CRL)",
            Self::PrivateKey => "one private key (PRIVATE KEY)",
        }
    }

    const fn none_there(self) -> &'static str {
        match self {
            Self::Certificates => "it holds no certificate in PEM",
            Self::RevocationLists => "it holds no revocation list (X509 CRL) in PEM",
            Self::PrivateKey => "it holds no private key in PEM",
        }
    }

    const fn is_der(self) -> &'static str {
        match self {
            Self::Certificates => {
                "it is DER or PKCS#12, not PEM; mend: openssl x509 -inform DER -in FILE -out FILE.pem"
            }
            Self::RevocationLists => {
                "it is DER, not PEM; mend: openssl crl -inform DER -in FILE -out FILE.pem"
            }
            Self::PrivateKey => {
                "it is DER or PKCS#12, not PEM; mend: openssl pkey -inform DER -in FILE -out FILE.pem"
            }
        }
    }
}

/// Why a file is refused. It repeats nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; `None` where it is the file as a whole.
    pub line: Option<usize>,
    /// What is wrong with it, and what mends it where that can be said.
    pub reason: Cow<'static, str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Fault {}

fn fault(line: impl Into<Option<usize>>, reason: impl Into<Cow<'static, str>>) -> Fault {
    Fault {
        line: line.into(),
        reason: reason.into(),
    }
}

/// One block that the file is read for.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// The content.
    pub der: Vec<u8>,
    /// The line of its `BEGIN`, from 1.
    pub line: usize,
}

impl fmt::Debug for Block {
    /// It may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block of line {}", self.line)
    }
}

/// All blocks of a file, in order; at least one, and of keys exactly one.
///
/// # Errors
/// Where anything in it would not count, or there is nothing.
pub fn read(file: &[u8], wanted: Wanted) -> Result<Vec<Block>, Fault> {
    refuse_what_is_no_text(file, wanted)?;
    let mut found = Vec::new();
    let mut open: Option<Open<'_>> = None;
    let file = file.strip_suffix(b"\n").unwrap_or(file);
    for (number, line) in (1_usize..).zip(file.split(|octet| *octet == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.contains(&b'\r') {
            return Err(fault(number, "a carriage return within the line"));
        }
        let line = line.trim_ascii_end();
        match &mut open {
            Some(block) if is_frame(line, b"END ", block.label.as_bytes()) => {
                found.extend(block.close()?);
                open = None;
            }
            Some(block) => block.take(line, number)?,
            None => open = opened(line, number, wanted)?,
        }
    }
    if let Some(block) = open {
        let reason = format!("the block {} that begins here has no end", block.label);
        return Err(fault(block.line, reason));
    }
    match (wanted, found.as_slice()) {
        (_, []) => Err(fault(None, wanted.none_there())),
        (Wanted::PrivateKey, [_, second, ..]) => {
            Err(fault(second.line, "a second key: which of them counts?"))
        }
        _ => Ok(found),
    }
}

fn refuse_what_is_no_text(file: &[u8], wanted: Wanted) -> Result<(), Fault> {
    if matches!(file, [SEQUENCE, length, ..] if *length >= 0x80) {
        return Err(fault(None, wanted.is_der()));
    }
    let reason = match file {
        [0xef, 0xbb, 0xbf, ..] => {
            "a byte-order mark stands before the text; mend: save it without one"
        }
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => {
            "it is UTF-16, not ASCII; mend: save it as ASCII or UTF-8"
        }
        _ => {
            let is_odd = |octet: &u8| octet.is_ascii_control() && !b"\t\r\n".contains(octet);
            let Some(place) = file.iter().position(is_odd) else {
                return Ok(());
            };
            let before = file.iter().take(place).filter(|octet| **octet == b'\n');
            let line = before.count().saturating_add(1);
            return Err(fault(line, "a control character: this is no text"));
        }
    };
    Err(fault(1, reason))
}

/// A block whose end is still to come.
struct Open<'a> {
    label: &'a str,
    line: usize,
    counts: bool,
    base64: Vec<u8>,
}

impl Open<'_> {
    fn take(&mut self, line: &[u8], number: usize) -> Result<(), Fault> {
        let is_base64 = !line.is_empty() && line.iter().all(|octet| is_of_base64(*octet));
        if is_base64 {
            self.base64.extend_from_slice(line);
            return Ok(());
        }
        if line.starts_with(b"Proc-Type: 4,ENCRYPTED") {
            return Err(encrypted(number));
        }
        let reason = if looks_like_frame(line) {
            format!(
                "this does not end the block {} of line {}",
                self.label, self.line
            )
        } else if line.is_empty() {
            format!("an empty line within the block of line {}", self.line)
        } else if line.first().is_some_and(u8::is_ascii_whitespace) {
            format!("an indented line within the block of line {}", self.line)
        } else {
            format!("not base64, within the block of line {}", self.line)
        };
        Err(fault(number, reason))
    }

    fn close(&self) -> Result<Option<Block>, Fault> {
        let broken = |why: &str| fault(self.line, format!("the block {} {why}", self.label));
        let der = STANDARD.decode(&self.base64);
        let der =
            der.map_err(|_| broken("is not base64 as it must be: something was cut or glued"))?;
        let tag = if self.counts {
            &[SEQUENCE][..]
        } else {
            &[SEQUENCE, OBJECT_IDENTIFIER]
        };
        if !der.first().is_some_and(|first| tag.contains(first)) || !is_one_element(&der) {
            return Err(broken(
                "does not hold one whole element of DER: something was cut or glued",
            ));
        }
        Ok(self.counts.then_some(Block {
            der,
            line: self.line,
        }))
    }
}

/// The block that this line opens, where it is no text that explains.
fn opened(line: &[u8], number: usize, wanted: Wanted) -> Result<Option<Open<'_>>, Fault> {
    let label = line
        .strip_prefix(b"-----BEGIN ")
        .and_then(|rest| rest.strip_suffix(b"-----"))
        .and_then(|label| std::str::from_utf8(label).ok())
        .filter(|label| is_label(label));
    let Some(label) = label else {
        if looks_like_frame(line) {
            let reason = "this looks like the frame of a block and is none: it must stand alone in its line, \
                 from the first column on, as -----BEGIN LABEL----- or -----END LABEL-----";
            return Err(fault(number, reason));
        }
        if looks_like_content(line) {
            return Err(fault(
                number,
                "this looks like the content of a block that does not begin before it",
            ));
        }
        return Ok(None);
    };
    match (wanted.takes(label), label) {
        (Some(counts), _) => Ok(Some(Open {
            label,
            line: number,
            counts,
            base64: Vec::new(),
        })),
        (None, "ENCRYPTED PRIVATE KEY") => Err(encrypted(number)),
        (None, "TRUSTED CERTIFICATE") => Err(fault(
            number,
            "a certificate with openssl's own marks of trust; mend: openssl x509 -in FILE -out FILE.pem",
        )),
        (None, _) => Err(fault(
            number,
            format!(
                "a block {label} in a file of {}; mend: take it out",
                wanted.words()
            ),
        )),
    }
}

fn encrypted(number: usize) -> Fault {
    fault(
        number,
        "the key is encrypted, and nobody is there to type its passphrase; mend: openssl pkey -in FILE -out \
         FILE.key, and chmod 600",
    )
}

fn is_frame(line: &[u8], word: &[u8], label: &[u8]) -> bool {
    let rest = line
        .strip_prefix(b"-----")
        .and_then(|rest| rest.strip_prefix(word));
    let rest = rest.and_then(|rest| rest.strip_prefix(label));
    rest == Some(b"-----")
}

fn is_label(label: &str) -> bool {
    let of_label =
        |octet: u8| octet.is_ascii_uppercase() || octet.is_ascii_digit() || octet == b' ';
    (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(of_label) && label.trim() == label
}

const fn is_of_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=')
}

/// Whatever a word processor or a mailer makes of a hyphen.
fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{ad}' | '\u{2010}'
            ..='\u{2015}' | '\u{2212}' | '\u{2500}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}

/// Whether somebody may have meant a frame by this line: see the module.
fn looks_like_frame(line: &[u8]) -> bool {
    if line.iter().all(|octet| octet.is_ascii() && *octet != b'-') {
        return false;
    }
    let signs: Vec<char> = String::from_utf8_lossy(line).chars().collect();
    let kind = |c: &char| (is_dash(*c), c.is_alphanumeric());
    let runs: Vec<&[char]> = signs.chunk_by(|a, b| kind(a) == kind(b)).collect();
    let dashes = |run: &[char]| {
        if run.iter().all(|c| is_dash(*c)) {
            run.len()
        } else {
            0
        }
    };
    let is_word = |run: &[char]| run.iter().all(|c| c.is_alphanumeric());
    let five_beside = runs.windows(2).any(|two| match two {
        [left, right] => {
            (dashes(left) == 5 && is_word(right)) || (is_word(left) && dashes(right) == 5)
        }
        _ => false,
    });
    // Blanks and signs of quoting may stand between.
    let tokens: Vec<&[char]> = runs
        .into_iter()
        .filter(|run| dashes(run) > 0 || is_word(run))
        .collect();
    let names_frame = |run: &[char]| {
        let word: String = run.iter().map(char::to_ascii_uppercase).collect();
        word == "BEGIN" || word == "END"
    };
    let named = tokens.windows(2).any(|two| match two {
        [left, right] => {
            (dashes(left) > 0 && names_frame(right)) || (names_frame(left) && dashes(right) > 0)
        }
        _ => false,
    });
    five_beside || (named && tokens.iter().any(|run| dashes(run) > 1))
}

/// Whether this may be a line of a block whose frame was lost: see the module.
fn looks_like_content(line: &[u8]) -> bool {
    let quoting = |octet: &u8| octet.is_ascii_whitespace() || b">|#*;:%!-\"'`".contains(octet);
    let start = line.iter().position(|octet| !quoting(octet));
    let text = start
        .and_then(|start| line.get(start..))
        .unwrap_or_default();
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    text.len() >= CONTENT_MIN
        && text.iter().all(|octet| is_of_base64(*octet))
        && !text.iter().all(u8::is_ascii_hexdigit)
}

/// Whether these octets are one element of DER, by its own length.
fn is_one_element(der: &[u8]) -> bool {
    let (Some(first), Some(rest)) = (der.get(1), der.get(2..)) else {
        return false;
    };
    let of_length = usize::from(first & 0x7f);
    if *first < 0x80 {
        return rest.len() == of_length;
    }
    if !(1..=4).contains(&of_length) {
        return false;
    }
    let Some((length, content)) = rest.split_at_checked(of_length) else {
        return false;
    };
    let length = length
        .iter()
        .fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet));
    u64::try_from(content.len()).is_ok_and(|found| found == length)
}

/// A certificate as a block.
#[must_use]
pub fn certificate(der: &[u8]) -> String {
    written("CERTIFICATE", der)
}

/// A revocation list as a block.
#[must_use]
pub fn revocation_list(der: &[u8]) -> String {
    written("X509 CRL", der)
}

fn written(label: &str, der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    encode_config(&Pem::new(label, der), config)
}

#[cfg(test)]
mod tests;
