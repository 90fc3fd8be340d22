//! Text from outside, as a log or a terminal may show it.
//!
//! Whoever can choose a text that others read can otherwise steer their screen, forge lines of
//! their log, or turn words around. What steers is shown as the code of its character instead.

use std::ffi::OsStr;
use std::fmt::Write as _;

/// Whether a terminal would act on the character, or show it other than where it stands: control
/// characters (C0, DEL, C1), marks and overrides of direction, line separators, invisible ones.
#[must_use]
pub fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{61c}')
}

/// Whether the text has nothing that steers, so that it may be kept and shown as it is.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(is_steering)
}

/// Which of a command's arguments, the program's name being 0, has a control character: no name or
/// reason needs one, and a file's name with a line's end could forge what the program says.
#[must_use]
pub fn first_with_control<T: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = T>,
) -> Option<usize> {
    arguments.into_iter().position(|argument| {
        let text = argument.as_ref().to_string_lossy();
        text.chars().any(char::is_control)
    })
}

/// One line: whatever steers, line ends too, is written as `\u{1b}`.
#[must_use]
pub fn line(text: &str) -> String {
    escaped(text, false)
}

/// Several lines: as [`line()`], but `\n` still ends a line.
#[must_use]
pub fn lines(text: &str) -> String {
    escaped(text, true)
}

fn escaped(text: &str, keeps_lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_steering(c) && !(keeps_lines && c == '\n') {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A JSON text that reads as before and steers nothing: such characters stand only inside of its
/// strings, where `\u001b` means the same.
#[must_use]
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_steering(c) {
            // All of them are in the plane that four digits reach. Writing to a string cannot fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A text as a cell of CSV: steers nothing, and no spreadsheet takes it for a formula.
#[must_use]
pub fn cell(text: &str) -> String {
    let shown = line(text);
    if shown.starts_with(['=', '+', '-', '@']) {
        format!("'{shown}")
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// ESC, CR, BEL, DEL, CSI of C1, overrides and isolates of direction, a line separator.
    const HOSTILE: &str =
        "a\u{1b}[2J\r\u{7}\u{7f}\u{85}\u{9b}31m\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{200f}z";

    #[test]
    fn what_steers_is_shown_by_its_code_and_the_rest_as_it_is() {
        let shown = line(HOSTILE);
        assert_eq!(
            shown,
            "a\\u{1b}[2J\\u{d}\\u{7}\\u{7f}\\u{85}\\u{9b}31m\\u{202a}\\u{202e}\\u{2066}\\u{2069}\\u{2028}\\u{200f}z"
        );
        assert!(is_plain(&shown) && !is_plain(HOSTILE));
        assert_eq!(line("Zoë, 東京, \"=1\" \\"), "Zoë, 東京, \"=1\" \\");
        assert_eq!(line("a\nb"), "a\\u{a}b");
        assert_eq!(lines("a\r\nb"), "a\\u{d}\nb");
    }

    #[test]
    fn the_first_argument_with_a_control_character_is_found() {
        assert_eq!(first_with_control(["a", "b c", "Zoë\u{200d}"]), None);
        for control in ["\u{1b}", "\n", "\r", "\t", "\u{7f}", "\u{9b}"] {
            let named = format!("a{control}b");
            assert_eq!(first_with_control(["a", &named, &named]), Some(1));
        }
    }

    #[test]
    fn a_cell_that_a_spreadsheet_would_reckon_is_text() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        assert_eq!(cell("fee, taken twice"), "fee, taken twice");
        assert_eq!(cell("\t=1"), "\\u{9}=1");
    }

    proptest! {
        #[test]
        fn nothing_that_steers_is_ever_left(text in any::<String>()) {
            prop_assert!(is_plain(&line(&text)) && is_plain(&cell(&text)));
            prop_assert!(lines(&text).split('\n').all(is_plain));
        }

        #[test]
        fn json_means_the_same_as_before(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            let shown = json(&written);
            prop_assert!(is_plain(&shown));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }

    #[test]
    fn json_of_hostile_text_means_the_same_as_before() {
        let shown = json(&serde_json::to_string(HOSTILE).unwrap());
        assert!(is_plain(&shown));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), HOSTILE);
    }
}
