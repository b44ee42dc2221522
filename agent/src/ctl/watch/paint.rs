//! How the page looks: colours and signs, as far as the terminal has them. No meaning stands in a colour alone.
//! Draws nothing.

use ratatui::style::{Color, Modifier, Style};

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    pub colours: bool,
    /// Signs beyond ASCII.
    pub signs: bool,
}

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Head,
    Good,
    Warn,
    Bad,
    Quiet,
}

impl Paint {
    /// By `NO_COLOR` and its kin, and by the language that the terminal is set to.
    pub fn of_the_terminal() -> Self {
        let choice = anstream::AutoStream::choice(&std::io::stdout());
        let language = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter();
        let mut language = language.filter_map(|name| std::env::var(name).ok());
        Self {
            colours: choice != anstream::ColorChoice::Never,
            signs: is_utf8(&language.find(|of| !of.is_empty()).unwrap_or_default()),
        }
    }

    pub fn style(self, tone: Tone) -> Style {
        let coloured = |style: Style, colour| match self.colours {
            true => style.fg(colour),
            false => style,
        };
        let plain = Style::new();
        match tone {
            Tone::Plain => plain,
            Tone::Head => plain.add_modifier(Modifier::BOLD),
            Tone::Good => coloured(plain, Color::Green),
            Tone::Warn => coloured(plain, Color::Yellow),
            Tone::Bad => coloured(plain.add_modifier(Modifier::BOLD), Color::Red),
            Tone::Quiet => plain.add_modifier(Modifier::DIM),
        }
    }

    /// Of low to high.
    pub fn steps(self) -> &'static [&'static str] {
        match self.signs {
            true => &["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
            false => &["_", ".", "-", "=", "+", "*", "#", "@"],
        }
    }

    /// Where a text goes on that has no room.
    pub fn more(self) -> &'static str {
        match self.signs {
            true => "…",
            false => "~",
        }
    }

    /// In front of what is selected.
    pub fn selected(self) -> &'static str {
        match self.signs {
            true => "▸",
            false => ">",
        }
    }

    /// Above a panel.
    pub fn rule(self) -> &'static str {
        match self.signs {
            true => "─",
            false => "-",
        }
    }
}

fn is_utf8(language: &str) -> bool {
    let language = language.to_ascii_lowercase();
    language.contains("utf-8") || language.contains("utf8")
}

/// Nothing that steers a terminal, or turns the direction of what follows, whoever wrote it.
pub fn harmless(text: &str) -> bool {
    let turns = |c: char| matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..'\u{206a}');
    !text.chars().any(|c| c.is_control() || turns(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a terminal without UTF-8 gets none. Method: names of languages.
    #[test]
    fn languages_name_their_encoding() {
        for (language, utf8) in [
            ("en_US.UTF-8", true),
            ("C.utf8", true),
            ("C", false),
            ("", false),
            ("de_DE.ISO-8859-1", false),
        ] {
            assert_eq!(is_utf8(language), utf8, "{language}");
        }
    }
}
