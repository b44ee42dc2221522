//! The keys of the live page: what each means.
//! Does nothing: `page.rs` does.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    /// To the next panel, and back.
    Next,
    Before,
    Help,
    Pause,
    /// Away with the help, or with the page.
    Leave,
    End,
    /// As Ctrl-Z does elsewhere.
    Suspend,
    /// Draw everything anew, for example after other programs wrote on the terminal.
    Redraw,
}

impl Key {
    /// `None`: it means nothing here.
    pub fn of(event: KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        if event.modifiers.contains(KeyModifiers::CONTROL) {
            return match event.code {
                KeyCode::Char('c' | 'C') => Some(Self::End),
                KeyCode::Char('z' | 'Z') => Some(Self::Suspend),
                KeyCode::Char('l' | 'L') => Some(Self::Redraw),
                _ => None,
            };
        }
        match event.code {
            KeyCode::Up | KeyCode::Char('k') => Some(Self::Up),
            KeyCode::Down | KeyCode::Char('j') => Some(Self::Down),
            KeyCode::PageUp => Some(Self::PageUp),
            KeyCode::PageDown | KeyCode::Char(' ') => Some(Self::PageDown),
            KeyCode::Home | KeyCode::Char('g') => Some(Self::First),
            KeyCode::End | KeyCode::Char('G') => Some(Self::Last),
            KeyCode::Tab | KeyCode::Right => Some(Self::Next),
            KeyCode::BackTab | KeyCode::Left => Some(Self::Before),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => Some(Self::Help),
            KeyCode::Char('p') => Some(Self::Pause),
            KeyCode::Esc => Some(Self::Leave),
            KeyCode::Char('q' | 'Q') => Some(Self::End),
            _ => None,
        }
    }
}

/// Shown by `?`.
pub const HELP: [(&str, &str); 9] = [
    ("q, Esc, Ctrl-C", "end"),
    ("Up, Down, k, j", "select a line"),
    ("PgUp, PgDn, Space", "ten lines at once"),
    ("Home, End, g, G", "the first line, the last one"),
    ("Tab, Right", "the next panel"),
    ("Shift-Tab, Left", "the panel before"),
    ("p", "hold the picture still; again: go on"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "suspend; fg brings the page back"),
];
