//! Keys from the terminal, read by a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as threads;
use std::time::Duration;

use ratatui::crossterm::event::{
    self, Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use super::machine::Key;

/// How long the thread waits before it looks whether it should end.
const LOOK_UP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// The thread is waited for so long: one that reads half a key's bytes waits for the rest.
const END_WAIT: Duration = Duration::from_millis(200);
/// Keys that may wait to be handled.
const KEYS_AHEAD: usize = 64;

/// What the terminal reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// A key.
    Key(Key),
    /// The window has another size.
    Resized,
    /// Text was pasted. What it says is nobody's key.
    Pasted,
}

/// The thread that reads keys; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keyboard {
    pressed: mpsc::Receiver<Pressed>,
    over: Arc<AtomicBool>,
    /// Nothing is ever sent: it closes when the thread ends.
    ended: threads::Receiver<()>,
}

impl Keyboard {
    /// Reads from now on.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, pressed) = mpsc::channel(KEYS_AHEAD);
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let (alive, ended) = threads::sync_channel::<()>(0);
        let read = move || {
            let _alive = alive;
            let goes_on = || !told.load(Ordering::Relaxed) && is_there().unwrap_or(false);
            while goes_on() && hand_over(&sender).unwrap_or(false) {}
        };
        std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(read)?;
        Ok(Self {
            pressed,
            over,
            ended,
        })
    }

    /// What is pressed next; `None` where the terminal is gone.
    pub(crate) async fn next(&mut self) -> Option<Pressed> {
        self.pressed.recv().await
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.pressed.close();
        // So that it takes no key of what comes next; it ends with the process at the latest.
        let _ = self.ended.recv_timeout(END_WAIT);
    }
}

/// Waits a little for a key; whether there still is a terminal. Of one that is gone the library
/// below reads without end.
fn is_there() -> io::Result<bool> {
    let input = io::stdin();
    let mut watched = [PollFd::new(&input, PollFlags::IN)];
    match poll(&mut watched, Some(&LOOK_UP)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [watched] = watched;
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(!watched.revents().intersects(gone))
}

/// Hands over what was pressed already; whether anybody listens.
fn hand_over(sender: &mpsc::Sender<Pressed>) -> io::Result<bool> {
    while let Some(pressed) = next_pressed()? {
        if sender.blocking_send(pressed).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What was pressed already and means something; `None` where nothing was.
fn next_pressed() -> io::Result<Option<Pressed>> {
    while event::poll(Duration::ZERO)? {
        let pressed = match event::read()? {
            TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => {
                meaning(key).map(Pressed::Key)
            }
            TerminalEvent::Resize(..) => Some(Pressed::Resized),
            TerminalEvent::Paste(_) => Some(Pressed::Pasted),
            _ => None,
        };
        if pressed.is_some() {
            return Ok(pressed);
        }
    }
    Ok(None)
}

fn meaning(key: KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            // A line feed that was typed ahead, before raw mode.
            KeyCode::Char('j') => Some(Key::Enter),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Up | KeyCode::BackTab => Key::Up,
        KeyCode::Down | KeyCode::Tab => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Backspace | KeyCode::Delete => Key::Backspace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_c_ends_and_other_control_keys_type_nothing() {
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert_eq!(meaning(control('c')), Some(Key::Interrupt));
        assert_eq!(meaning(control('1')), None);
        let plain = KeyEvent::new(KeyCode::Char('1'), KeyModifiers::NONE);
        assert_eq!(meaning(plain), Some(Key::Char('1')));
    }
}
