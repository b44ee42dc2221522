//! What stands around every page: the head, the way to the other pages, who looks.
//! Knows nothing of what a page shows.

use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};

use super::guard::Visitor;
use super::words::{Tongue, Word};
use crate::api::picture::span;

/// The pages that one can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Cluster,
    Timeline,
    Messages,
    Number,
    Settings,
}

impl Page {
    /// In the order of the way to them.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Timeline,
        Self::Messages,
        Self::Number,
        Self::Settings,
    ];

    /// Its last word in the address; what the script asks news of.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Timeline => "timeline",
            Self::Messages => "messages",
            Self::Number => "number",
            Self::Settings => "settings",
        }
    }

    /// By its name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.name() == name)
    }

    /// Its address.
    pub fn path(self) -> String {
        match self {
            Self::Cluster => "/console".to_owned(),
            Self::Timeline | Self::Messages | Self::Number | Self::Settings => {
                format!("/console/{}", self.name())
            }
        }
    }

    /// What it is called.
    pub fn title(self) -> Word {
        match self {
            Self::Cluster => Word::Cluster,
            Self::Timeline => Word::Timeline,
            Self::Messages => Word::Messages,
            Self::Number => Word::Number,
            Self::Settings => Word::Settings,
        }
    }
}

/// A part of a page that the script may put in the place of the one before, by its id.
pub struct Panel {
    pub id: &'static str,
    pub body: Markup,
}

/// Draws a panel: a section with a heading, which a screen reader can jump to.
pub fn panel(id: &'static str, heading: &str, body: &Markup) -> Panel {
    let label = format!("{id}-heading");
    let body = html! {
        section.panel id=(id) aria-labelledby=(label) {
            h2 id=(label) { (heading) }
            (body)
        }
    };
    Panel { id, body }
}

fn document(tongue: Tongue, title: &str, live: Option<Page>, body: &Markup) -> Response {
    let whole = html! {
        (DOCTYPE)
        html lang=(tongue.tag()) dir=(tongue.direction()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " - wa-agent" }
                link rel="stylesheet" href="/console/console.css";
                link rel="icon" href="/console/icon.svg" type="image/svg+xml";
                @if live.is_some() {
                    script src="/console/console.js" defer {}
                }
            }
            body data-page=[live.map(Page::name)] {
                (body)
            }
        }
    };
    Html(whole.into_string()).into_response()
}

fn languages(tongue: Tongue) -> Markup {
    html! {
        nav.languages aria-label=(tongue.say(Word::Language)) {
            @for other in Tongue::OFFERED {
                a href=(format!("/console/language/{}", other.tag())) hreflang=(other.tag()) lang=(other.tag())
                    dir=(other.direction()) aria-current=[(other == tongue).then_some("true")] { (other.name()) }
            }
        }
    }
}

/// A page of its own, without the way to the others: for who is not logged in.
pub fn alone(tongue: Tongue, title: Word, body: &Markup) -> Response {
    let title = tongue.say(title);
    let whole = html! {
        main #content .alone {
            h1 { (title) }
            (body)
            (languages(tongue))
        }
    };
    document(tongue, &title, None, &whole)
}

/// One of the pages, made of panels. `before`: what stands in front of them and is never replaced, such as a form.
pub fn page(visitor: &Visitor, page: Page, before: &Markup, panels: &[Panel]) -> Response {
    let tongue = visitor.tongue;
    let title = tongue.say(page.title());
    let whole = html! {
        a.skip href="#content" { (tongue.say(Word::SkipToContent)) }
        header.top {
            a.brand href="/console" { "wa-agent" }
            nav.pages aria-label="wa-agent" {
                @for other in Page::ALL {
                    a href=(other.path()) aria-current=[(other == page).then_some("page")] { (tongue.say(other.title())) }
                }
            }
            p.who {
                span.live #live data-live=(tongue.say(Word::Live)) data-lost=(tongue.say(Word::NotLive)) role="status" {}
                bdi { (visitor.caller.username) }
            }
            form method="post" action="/console/logout" {
                (form_token(visitor))
                button type="submit" { (tongue.say(Word::LogOut)) }
            }
        }
        main #content {
            h1 { (title) }
            (before)
            @for panel in panels {
                (panel.body)
            }
        }
        footer { (languages(tongue)) }
    };
    document(tongue, &title, Some(page), &whole)
}

/// What every form carries.
pub fn form_token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="form" value=(visitor.form); }
}

/// A span of milliseconds beside a label: the number stands before its unit also where people read from right to left.
pub fn measured(ms: u64) -> Markup {
    html! { bdi { (span(ms)) } }
}

/// A moment of the database's or a master's clock, in milliseconds since 1970, in UTC.
pub fn moment(unix_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MIN);
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A table whose first row holds the headings and whose first cell of each row names it. On narrow screens each row is a card.
pub fn table(caption: &str, heads: &[std::borrow::Cow<'_, str>], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label=(caption) {
            table {
                caption.quiet { (caption) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (cell) } }
                                @else { td data-head=[heads.get(at)] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every page is found by its name, and no two have one address. Method: all of them.
    #[test]
    fn pages_have_names_of_their_own() {
        for page in Page::ALL {
            assert_eq!(Page::of(page.name()), Some(page));
            let same = Page::ALL.into_iter().filter(|p| p.path() == page.path());
            assert_eq!(same.count(), 1);
        }
        assert_eq!(Page::of("login"), None);
    }

    /// Goal: what others wrote is text on a page, and nothing else. Method: a heading with markup.
    #[test]
    fn text_of_others_is_text() {
        let drawn = panel("id", "<script>\"&", &html! { "<b>" })
            .body
            .into_string();
        assert!(
            !drawn.contains("<script>") && !drawn.contains("<b>"),
            "{drawn}"
        );
        assert!(drawn.contains("&lt;script&gt;&quot;&amp;"), "{drawn}");
    }

    /// Goal: moments are said in UTC. Method: one.
    #[test]
    fn moments_are_said() {
        assert_eq!(moment(1_898_609_366_000), "2030-03-01 15:29:26");
    }
}
