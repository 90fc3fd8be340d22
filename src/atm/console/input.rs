//! What a customer types in line mode. PINs are never echoed.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use rustix::termios::{QueueSelector, tcflush};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::atm::error::Error;
use crate::atm::lines::Lines;
use crate::domain::Pin;

const CONTROL_C: u8 = 0x03;
const CONTROL_D: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CONTROL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// How an answer is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// In the open.
    Line,
    /// Without echo.
    Secret,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Typed {
    /// A line, without its end.
    Line(Zeroizing<String>),
    /// There will be no more.
    End,
    /// The customer pressed Ctrl-C while typing a secret.
    Interrupt,
}

/// A thread that reads when it is asked to: a blocking read cannot be given up, and one that
/// nobody asked for would fight over the keyboard.
#[derive(Debug)]
pub struct Input {
    questions: mpsc::Sender<Asked>,
    answers: mpsc::Receiver<(Asked, Typed)>,
    outstanding: Option<Asked>,
    is_terminal: bool,
}

impl Input {
    /// Reads standard input.
    ///
    /// # Errors
    /// Standard input is closed, or there is no thread to be had.
    pub fn from_stdin() -> Result<Self, Error> {
        Self::start(Lines::new(Self::stdin_file()?), io::stdin().is_terminal())
    }

    /// Standard input without the buffer of its own that nobody could wipe.
    ///
    /// # Errors
    /// Standard input is closed.
    pub fn stdin_file() -> Result<File, Error> {
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        file.map_err(|error| Error::Settings(format!("standard input: {error}")))
    }

    /// Reads `source`, which is no terminal; for tests.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn from_reader(source: impl io::Read + Send + 'static) -> Result<Self, Error> {
        Self::start(Lines::new(source), false)
    }

    fn start<R: io::Read + Send + 'static>(
        mut lines: Lines<R>,
        is_terminal: bool,
    ) -> Result<Self, Error> {
        let (questions, mut asked) = mpsc::channel(1);
        let (answer, answers) = mpsc::channel(1);
        let read = move || {
            while let Some(asked) = asked.blocking_recv() {
                let typed = match asked {
                    Asked::Secret if is_terminal => read_secret(&mut lines),
                    Asked::Secret | Asked::Line => lines.next_line().map(|line| match line {
                        Some(line) => Typed::Line(line),
                        None => Typed::End,
                    }),
                };
                // A terminal that cannot be read is one that is gone.
                let typed = typed.unwrap_or(Typed::End);
                if answer.blocking_send((asked, typed)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(read)
            .map_err(|error| Error::Settings(format!("no thread to read the keyboard: {error}")))?;
        Ok(Self {
            questions,
            answers,
            outstanding: None,
            is_terminal,
        })
    }

    /// Forgets what was typed or pasted before the next question is asked: it is no answer to that.
    /// What does not come from a terminal was written for the questions to come, and stays.
    pub(crate) fn forget_typed_ahead(&self) {
        if self.is_terminal {
            // Where that fails there is no terminal any more, which reading tells.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        }
    }

    /// The answer to one question. Where the wait is given up, the next question of the same kind gets
    /// what is being typed, unless that is forgotten.
    pub(crate) async fn read(&mut self, wanted: Asked) -> Typed {
        loop {
            if self.outstanding.is_none() {
                if self.questions.send(wanted).await.is_err() {
                    return Typed::End;
                }
                self.outstanding = Some(wanted);
            }
            let Some((asked, typed)) = self.answers.recv().await else {
                return Typed::End;
            };
            self.outstanding = None;
            // The answer to a question that was given up is not one to this question.
            if asked == wanted || !matches!(typed, Typed::Line(_)) {
                return typed;
            }
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        show_typing();
    }
}

/// Echoes again what is typed, in case a secret was being typed; does nothing otherwise.
fn show_typing() {
    // Where that fails there is no terminal left to mend.
    let _ = disable_raw_mode();
}

/// Reads without echo. Raw mode, because it can be undone from outside when a signal comes; byte
/// by byte, so that nothing behind its end is taken with it.
fn read_secret<R: io::Read>(lines: &mut Lines<R>) -> io::Result<Typed> {
    enable_raw_mode()?;
    let typed = secret_line(lines);
    show_typing();
    typed
}

fn secret_line<R: io::Read>(lines: &mut Lines<R>) -> io::Result<Typed> {
    // Longer than any PIN, so that too long a one is not taken for a shorter one.
    let characters_max = Pin::DIGITS_MAX.saturating_add(4);
    let mut line = Zeroizing::new(String::with_capacity(characters_max));
    while let Some(byte) = lines.single_byte()? {
        match byte {
            b'\r' | b'\n' => return Ok(Typed::Line(line)),
            CONTROL_C => return Ok(Typed::Interrupt),
            CONTROL_D if line.is_empty() => return Ok(Typed::End),
            BACKSPACE | DELETE => drop(line.pop()),
            CONTROL_U | ESCAPE => line.clear(),
            b' '..=b'~' if line.len() < characters_max => line.push(char::from(byte)),
            // Left out, it would make another PIN of it.
            _ if line.len() < characters_max => line.push('?'),
            _ => {}
        }
    }
    Ok(Typed::End)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (Typed, Option<String>) {
        let mut lines = Lines::new(bytes);
        let typed = secret_line(&mut lines).unwrap();
        (
            typed,
            lines.next_line().unwrap().map(|line| line.to_string()),
        )
    }

    #[test]
    fn a_secret_ends_with_its_line_and_what_is_typed_ahead_is_left() {
        let (secret, rest) = typed(b"12\x7f345\r1\nquit\n");
        assert!(matches!(secret, Typed::Line(line) if line.as_str() == "1345"));
        assert_eq!(rest.as_deref(), Some("1"));
    }

    #[test]
    fn control_keys_take_back_interrupt_or_end() {
        assert!(matches!(typed(b"12\x153456\n").0, Typed::Line(line) if line.as_str() == "3456"));
        assert!(matches!(typed(b"12\x03").0, Typed::Interrupt));
        assert!(matches!(typed(b"\x04").0, Typed::End));
        assert!(matches!(typed(b"12").0, Typed::End));
    }

    #[test]
    fn too_long_a_secret_is_no_pin() {
        let (secret, _) = typed(b"1234567890123456789\n");
        assert!(matches!(secret, Typed::Line(line) if Pin::parse(&line).is_err()));
    }
}
