//! How the views look. Draws what the machine says, decides nothing.

mod body;

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, BorderType, Padding, Paragraph, Wrap};

use super::machine::Machine;
use super::view::{Errand, Purpose, View};
use crate::atm::words;

/// A smaller window gets words only, without frames.
const FRAMED_COLUMNS_MIN: u16 = 44;
const FRAMED_ROWS_MIN: u16 = 14;
const CARD_COLUMNS: u16 = 62;
const WARNING_ROWS: u16 = 2;
/// From here on the countdown is in the customer's face.
const COUNTDOWN_URGENT_MS: u64 = 15_000;

pub(super) const ACCENT: Color = Color::Cyan;
pub(super) const QUIET: Style = Style::new().fg(Color::DarkGray);

/// Draws the whole screen.
pub(crate) fn draw(frame: &mut Frame<'_>, machine: &Machine) {
    let area = frame.area();
    if area.width < FRAMED_COLUMNS_MIN || area.height < FRAMED_ROWS_MIN {
        draw_small(frame, area, machine);
        return;
    }
    let warning = machine.warning().map(warning);
    let rows = [
        Constraint::Length(3),
        Constraint::Min(8),
        Constraint::Length(warning.as_ref().map_or(0, |_| WARNING_ROWS)),
        Constraint::Length(1),
    ];
    let [head, middle, warned, foot] = Layout::vertical(rows).areas(area);
    draw_head(frame, head, machine);
    draw_card(frame, middle, machine);
    let keys = Line::from(hint(machine.view())).style(QUIET).centered();
    frame.render_widget(keys, foot);
    if let Some(warning) = warning {
        frame.render_widget(warning.wrap(Wrap { trim: true }), warned);
    }
}

fn warning(text: &str) -> Paragraph<'static> {
    let style = Style::new().fg(Color::Yellow);
    Paragraph::new(format!("Attendant: {text}")).style(style)
}

fn draw_small(frame: &mut Frame<'_>, area: Rect, machine: &Machine) {
    let mut lines = vec![Line::from(title(machine.view())).bold()];
    lines.extend(machine.note().map(|note| Line::from(note.to_owned())));
    lines.extend(
        machine
            .warning()
            .map(|text| Line::from(format!("Attendant: {text}"))),
    );
    let rows = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(body::lines(machine, rows));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, machine: &Machine) {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().fg(ACCENT))
        .padding(Padding::horizontal(1));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = [Constraint::Min(8), Constraint::Length(24)];
    let [left, right] = Layout::horizontal(columns).areas(inner);
    let name = match machine.session() {
        Some(session) => match machine.available() {
            Some(available) => {
                let available = words::money(available, &session.currency);
                format!("{}   {available}", session.account)
            }
            None => session.account.to_string(),
        },
        None => "Your bank".to_owned(),
    };
    frame.render_widget(Line::from(name).bold(), left);
    if let Some(left_ms) = machine.idle_left_ms() {
        let style = if left_ms <= COUNTDOWN_URGENT_MS {
            Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD)
        } else {
            QUIET
        };
        let text = format!("logs out in {}", words::span(left_ms));
        frame.render_widget(Line::from(text).style(style).right_aligned(), right);
    }
}

fn draw_card(frame: &mut Frame<'_>, area: Rect, machine: &Machine) {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(format!(" {} ", title(machine.view())))
        .title_style(Style::new().fg(ACCENT).add_modifier(Modifier::BOLD))
        .padding(Padding::symmetric(2, 1));
    let is_list = matches!(machine.view(), View::History { .. });
    // A history needs all the room there is; everything else reads better in a card.
    let card = if is_list {
        area
    } else {
        centered(area, CARD_COLUMNS, 17)
    };
    let inner = block.inner(card);
    frame.render_widget(block, card);
    let note_rows = if machine.note().is_some() { 2 } else { 0 };
    let rows = [Constraint::Min(1), Constraint::Length(note_rows)];
    let [content, note] = Layout::vertical(rows).areas(inner);
    let lines = body::lines(machine, usize::from(content.height));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), content);
    if let Some(text) = machine.note() {
        let style = Style::new().fg(Color::Yellow);
        frame.render_widget(
            Paragraph::new(text).style(style).wrap(Wrap { trim: true }),
            note,
        );
    }
}

fn centered(area: Rect, columns: u16, rows: u16) -> Rect {
    let [area] = Layout::horizontal([Constraint::Max(columns)])
        .flex(Flex::Center)
        .areas(area);
    let [area] = Layout::vertical([Constraint::Max(rows)])
        .flex(Flex::Center)
        .areas(area);
    area
}

fn title(view: &View) -> &'static str {
    match view {
        View::Welcome { .. } => "Welcome",
        View::Pin { .. } => "Your PIN",
        View::Waiting { errand } => waiting_title(*errand),
        View::Menu { .. } => "What would you like to do?",
        View::Recipient { .. } => "Transfer money",
        View::Amount { purpose, .. } | View::Confirm { purpose, .. } => match purpose {
            Purpose::Withdraw => "Withdraw cash",
            Purpose::Deposit => "Deposit cash",
            Purpose::Transfer(_) => "Transfer money",
        },
        View::Counting { .. } => "Counting your notes",
        View::History { .. } => "History",
        View::ChangePin { .. } => "Change PIN",
        View::Message { title, .. } => title,
    }
}

const fn waiting_title(errand: Errand) -> &'static str {
    match errand {
        Errand::Capture(_) => "Please take your cash",
        Errand::Release => "Cancelling",
        Errand::LogOut => "Goodbye",
        _ => "One moment, please",
    }
}

const fn hint(view: &View) -> &'static str {
    match view {
        View::Welcome { .. } => "Enter goes on · Esc ends",
        View::Pin { .. } | View::Recipient { .. } => "Enter goes on · Esc cancels",
        View::Waiting { .. } => "",
        View::Menu { .. } => "↑ ↓ and Enter, or the number · Esc logs out",
        View::Amount { .. } => "↑ ↓ for an amount, or type one · Enter goes on · Esc cancels",
        View::Confirm { .. } => "Enter: yes · Esc: no",
        View::Counting { .. } => "Esc cancels",
        View::History { more: true, .. } => "↑ ↓ · m: earlier ones · Esc goes back",
        View::History { more: false, .. } => "↑ ↓ · Esc goes back",
        View::ChangePin { .. } => "Enter goes on · Esc cancels",
        View::Message { .. } => "any key goes on",
    }
}

#[cfg(test)]
mod tests;
