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
    let hint = hint(machine);
    let hint_rows = rows_of(&hint, area.width);
    let rows = [
        Constraint::Length(3),
        Constraint::Min(8),
        Constraint::Length(warning.as_ref().map_or(0, |_| WARNING_ROWS)),
        Constraint::Length(hint_rows),
    ];
    let [head, middle, warned, foot] = Layout::vertical(rows).areas(area);
    draw_head(frame, head, machine);
    draw_card(frame, middle, machine);
    let keys = Paragraph::new(hint).style(QUIET).centered();
    frame.render_widget(keys.wrap(Wrap { trim: true }), foot);
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
    lines.extend(machine.session().map(|_| Line::from(name(machine)).bold()));
    lines.extend(machine.note().map(|note| Line::from(note.to_owned())));
    lines.extend(
        machine
            .warning()
            .map(|text| Line::from(format!("Attendant: {text}"))),
    );
    let hint = hint(machine);
    let above: u16 = lines
        .iter()
        .map(|line| rows_of(&line.to_string(), area.width))
        .sum();
    let used = above.saturating_add(rows_of(&hint, area.width));
    let rows = usize::from(area.height.saturating_sub(used));
    lines.extend(body::lines(machine, rows, area.width));
    // Where there is room for both: what is asked comes first.
    if area.height > used {
        lines.push(Line::from(hint).style(QUIET));
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, machine: &Machine) {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().fg(ACCENT))
        .padding(Padding::horizontal(1));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let name = name(machine);
    let name_columns = u16::try_from(name.chars().count()).unwrap_or(u16::MAX);
    let columns = [Constraint::Length(name_columns), Constraint::Min(0)];
    let [left, right] = Layout::horizontal(columns).spacing(1).areas(inner);
    frame.render_widget(Line::from(name).bold(), left);
    if let Some(left_ms) = machine.idle_left_ms() {
        let style = if left_ms <= COUNTDOWN_URGENT_MS {
            Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD)
        } else {
            QUIET
        };
        let span = words::span(left_ms);
        let long = format!("logs out in {span}");
        // What the customer has is never cut for it.
        let fits = |text: &str| text.chars().count() <= usize::from(right.width);
        let text = [long, span].into_iter().find(|text| fits(text));
        let text = text.unwrap_or_default();
        frame.render_widget(Line::from(text).style(style).right_aligned(), right);
    }
}

/// Whose money it is, and how much of it there is.
fn name(machine: &Machine) -> String {
    match machine.session() {
        Some(session) => match machine.available() {
            Some(available) => {
                let available = words::money(available, &session.currency);
                format!("{}   {available}", session.account)
            }
            None => session.account.to_string(),
        },
        None => "Your bank".to_owned(),
    }
}

/// How many rows a text may need where it is wrapped.
fn rows_of(text: &str, columns: u16) -> u16 {
    let longest_word = text.split(' ').map(|word| word.chars().count()).max();
    let usable = usize::from(columns).saturating_sub(longest_word.unwrap_or(0) / 2);
    let rows = text.chars().count().div_ceil(usable.max(1)).max(1);
    u16::try_from(rows).unwrap_or(u16::MAX)
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
    let note_rows = machine.note().map_or(0, |note| rows_of(note, inner.width));
    let rows = [Constraint::Min(1), Constraint::Length(note_rows)];
    let [content, note] = Layout::vertical(rows).areas(inner);
    let lines = body::lines(machine, usize::from(content.height), content.width);
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

fn hint(machine: &Machine) -> String {
    match machine.view() {
        View::Welcome { .. } if machine.is_kiosk() => "Enter goes on",
        View::Waiting { .. } if machine.may_give_up() => {
            "This takes longer than usual. Esc ends your visit."
        }
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
    .to_owned()
}

#[cfg(test)]
mod tests;
