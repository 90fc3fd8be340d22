//! Keys from the terminal, read by a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::crossterm::event::{
    self, Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use tokio::sync::mpsc;

use super::machine::Key;

/// How long the thread waits before it looks whether it should end.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Keys that may wait to be handled.
const KEYS_AHEAD: usize = 64;

/// What the terminal reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressed {
    /// A key.
    Key(Key),
    /// The window has another size.
    Resized,
}

/// The thread that reads keys; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keyboard {
    pressed: mpsc::Receiver<Pressed>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        let read = move || {
            while !told.load(Ordering::Relaxed) {
                match next_pressed() {
                    Ok(None) => {}
                    Ok(Some(pressed)) if sender.blocking_send(pressed).is_ok() => {}
                    // The terminal is gone, or nobody listens.
                    Ok(Some(_)) | Err(_) => return,
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(read)?;
        Ok(Self {
            pressed,
            over,
            thread: Some(thread),
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
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn next_pressed() -> io::Result<Option<Pressed>> {
    if !event::poll(LOOK_UP)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => {
            meaning(key).map(Pressed::Key)
        }
        TerminalEvent::Resize(..) => Some(Pressed::Resized),
        _ => None,
    })
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
