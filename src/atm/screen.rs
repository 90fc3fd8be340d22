//! The full-screen terminal: `machine` decides, `draw` shows, `worker` asks the bank.

mod draw;
mod keyboard;
mod machine;
mod view;
mod worker;

use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::panic;
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::{DefaultTerminal, Terminal};
use tokio::sync::mpsc;

use self::keyboard::{Keyboard, Pressed};
use self::machine::{Event, Machine};
use self::worker::{Heard, Said, Worker};
use super::error::Error;
use super::stop::Stop;
use super::teller::Teller;
use crate::domain::printable;

/// Animations and countdowns move this often.
const TICK: Duration = Duration::from_millis(100);
/// Wishes and replies that may wait. A customer has one wish at a time, and staying logged in.
const WAITING_MAX: usize = 8;

/// Serves customers until the attendant ends the terminal (Esc at the welcome, Ctrl-C anywhere; with
/// `kiosk` neither does) or a signal does. The window is restored whatever happens.
///
/// # Errors
/// There is no bank at the start, it is not the right one, or the window is gone.
pub async fn run(teller: &mut Teller, stop: &Stop, kiosk: bool) -> Result<(), Error> {
    // Who answers must have proved to be the bank before any PIN is asked for.
    teller.connect().await?;
    let mut worker = Worker::new(teller).with_log_beside();
    let outcome = show(&mut worker, stop, kiosk).await;
    worker.put_down().await;
    for report in worker.take_reports() {
        // The window is gone; an operator who does not listen changes nothing.
        let _ = writeln!(io::stderr(), "atm_client: {}", printable::line(&report));
    }
    outcome
}

/// The window, as it was before once this is dropped; a panic restores it too.
///
/// The library's terminal is never dropped, and none of its hooks is set: where the window is gone they
/// print to stderr, which is mostly that window, and panic within a panic.
struct Window(ManuallyDrop<DefaultTerminal>);

impl Window {
    fn open() -> io::Result<Self> {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        // What is pasted comes as one event, and is told from what is typed.
        enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste))
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())))
            .map(|terminal| Self(ManuallyDrop::new(terminal)))
            .inspect_err(|_| restore())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        restore();
    }
}

/// Of a window that is gone nothing is to be restored, and nobody could be told.
fn restore() {
    let _ = execute!(
        io::stdout(),
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}

async fn show(worker: &mut Worker<'_>, stop: &Stop, kiosk: bool) -> Result<(), Error> {
    let mut window = Window::open().map_err(Error::Output)?;
    let mut keyboard = Keyboard::start().map_err(Error::Output)?;
    let (say, said) = mpsc::channel(WAITING_MAX);
    let (hear, heard) = mpsc::channel(WAITING_MAX);
    tokio::select! {
        outcome = play(&mut window, &mut keyboard, say, heard, stop, kiosk) => outcome,
        outcome = Box::pin(worker.run(said, hear)) => outcome,
    }
}

async fn play(
    window: &mut Window,
    keyboard: &mut Keyboard,
    say: mpsc::Sender<Said>,
    mut heard: mpsc::Receiver<Heard>,
    stop: &Stop,
    kiosk: bool,
) -> Result<(), Error> {
    let start = Instant::now();
    let mut machine = Machine::new().for_kiosk(kiosk);
    let mut ticks = tokio::time::interval(TICK);
    while !machine.is_over() {
        window
            .0
            .draw(|frame| draw::draw(frame, &machine))
            .map_err(Error::Output)?;
        if machine.take_told() && say.send(Said::Seen).await.is_err() {
            return Ok(());
        }
        let event = tokio::select! {
            () = stop.wished() => return Ok(()),
            pressed = keyboard.next() => match pressed {
                Some(Pressed::Key(key)) => Event::Key(key),
                Some(Pressed::Resized) => Event::Tick,
                Some(Pressed::Pasted) => Event::Pasted,
                None => {
                    stop.wish(1);
                    return Ok(());
                }
            },
            told = heard.recv() => match told {
                Some(Heard::Reply(reply)) => Event::Reply(reply),
                Some(Heard::News(news)) => Event::News(news),
                Some(Heard::Warning(warning)) => Event::Warning(warning),
                Some(Heard::Settled) => Event::Settled,
                None => return Ok(()),
            },
            _ = ticks.tick() => Event::Tick,
        };
        let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wanted = machine.handle(event, now_ms);
        let given_up = machine.take_given_up().then_some(Said::GiveUp);
        for said in given_up.into_iter().chain(wanted.map(Said::Wish)) {
            if say.send(said).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
