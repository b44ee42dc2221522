//! With what the live page is drawn: texts that fit and steer nothing, and the first line of a panel.
//! Knows no panel's content.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use wa_core::time::Instant;

use super::page::{Page, Seen};
use super::paint::{Paint, Tone, harmless};

/// What everything is drawn with.
#[derive(Clone, Copy)]
pub struct Pen<'a> {
    pub page: &'a Page,
    pub paint: Paint,
    pub now: Instant,
}

impl<'a> Pen<'a> {
    pub fn seen(&self) -> &'a Seen {
        self.page.seen()
    }

    pub fn say(&self, text: impl Into<String>, tone: Tone) -> Span<'static> {
        Span::styled(clean(&text.into()), self.paint.style(tone))
    }

    /// The first line of a panel; what is below it.
    pub fn panel(&self, frame: &mut Frame<'_>, area: Rect, title: &str, chosen: bool) -> Rect {
        let paint = self.paint;
        let sign = if chosen { paint.selected() } else { " " };
        let style = match chosen {
            true => paint.style(Tone::Head).add_modifier(Modifier::REVERSED),
            false => paint.style(Tone::Head),
        };
        let width = usize::from(area.width);
        let title = cut(&format!("{sign}{title} "), width, paint);
        let rest = width.saturating_sub(width_of(&title));
        let rule = Span::styled(paint.rule().repeat(rest), paint.style(Tone::Quiet));
        let line = Line::from(vec![Span::styled(title, style), rule]);
        let [top, below] = split(area, 1);
        frame.render_widget(line, top);
        below
    }
}

/// The first rows, and the rest.
pub fn split(area: Rect, rows: u16) -> [Rect; 2] {
    let rows = rows.min(area.height);
    let top = Rect {
        height: rows,
        ..area
    };
    let below = Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    };
    [top, below]
}

/// Columns that a text takes.
pub fn width_of(text: &str) -> usize {
    Span::raw(text).width()
}

/// What steers a terminal is a question mark, the end of a line a space.
pub fn clean(text: &str) -> String {
    let mut letter = [0; 4];
    text.chars()
        .map(|c| match c {
            c if c.is_whitespace() => ' ',
            c if harmless(c.encode_utf8(&mut letter)) => c,
            _ => '?',
        })
        .collect()
}

/// At most so many columns; what is cut off is shown as cut off.
pub fn cut(text: &str, width: usize, paint: Paint) -> String {
    let text = clean(text);
    if width_of(&text) <= width {
        return text;
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if width_of(&short) >= width {
            short.pop();
            break;
        }
    }
    if width > 0 {
        short.push_str(paint.more());
    }
    short
}

/// Lines of at most so many columns. A word that is longer goes on in the next line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in clean(text).split_whitespace() {
        let gap = usize::from(!line.is_empty());
        if !line.is_empty() && width_of(&line) + gap + width_of(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            line.push(c);
            if width_of(&line) > width && line.chars().count() > 1 {
                line.pop();
                lines.push(std::mem::replace(&mut line, c.to_string()));
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Paint = Paint {
        colours: false,
        signs: true,
    };

    /// Goal: texts fit into their columns, wide letters too, and a cut is seen. Method: a table.
    #[test]
    fn texts_are_cut() {
        for (text, width, shown) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("机器人之家", 5, "机器…"),
            ("a\x1b[2Jb", 9, "a?[2Jb"),
            ("a\u{202e}b", 9, "a?b"),
            ("x", 0, ""),
        ] {
            assert_eq!(cut(text, width, LOOK), shown, "{text} in {width}");
        }
    }

    /// Goal: no word is lost when a sentence takes several lines. Method: narrow ones.
    #[test]
    fn sentences_are_wrapped() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("journalctl", 4), ["jour", "nalc", "tl"]);
        assert_eq!(wrap("a journalctl", 4), ["a", "jour", "nalc", "tl"]);
        assert_eq!(wrap("two\nlines", 20), ["two lines"]);
        assert!(wrap("", 4).is_empty());
        assert_eq!(wrap("宽宽", 1), ["宽", "宽"]);
    }
}
