//! `wa-agent status --watch` on a terminal: a live page of the cluster. It has what the console's page *Cluster* shows.
//! Asks in `ask.rs`, keeps in `page.rs`, draws in `draw.rs`; here they are put together, with keys and signals.

mod ask;
mod curves;
mod detail;
mod draw;
mod keys;
mod lists;
mod page;
mod paint;
mod pen;
mod screen;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::keys::Key;
use self::page::{Next, Page};
use self::paint::Paint;
use self::screen::Screen;
use crate::cli::Reach;
use crate::exit::Exit;
use crate::sys::clock;

/// Without any news the page is drawn so often: ages grow.
const DRAWN_EVERY: Duration = Duration::from_millis(500);
/// News that wait for the page.
const NEWS_MAX: usize = 8;

/// Somebody looks, and can type: on a terminal that knows how to move a cursor.
pub fn possible() -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    let able = !term.is_empty() && term != "dumb";
    able && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Shows the page until somebody ends it. The exit code is that of the last answer.
///
/// # Errors
/// When there is no usable configuration, or the terminal refuses.
pub fn run(reach: &Reach) -> anyhow::Result<Exit> {
    // Two threads: what takes long while it asks, such as a slow disk, holds up no key.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(shown(reach));
    // An ask that hangs is not waited for.
    runtime.shutdown_background();
    let (exit, silent) = ended?.end();
    if let Some(why) = silent {
        eprintln!("wa-agent: {why}");
    }
    Ok(exit)
}

async fn shown(reach: &Reach) -> anyhow::Result<Page> {
    let (to, mut news) = mpsc::channel(NEWS_MAX);
    let mut page = Page::new();
    let mut ends = Ends::new()?;
    let paint = Paint::of_the_terminal();
    let mut screen = Screen::open()?;
    let mut events = EventStream::new();
    tokio::spawn(ask::run(reach.config.clone(), to));
    loop {
        screen.draw(|frame| draw::page(frame, &page, paint, clock::now()))?;
        let next = tokio::select! {
            told = news.recv() => match told {
                Some(told) => {
                    page.take(told)?;
                    Next::Draw
                }
                None => anyhow::bail!("the page cannot ask any more"),
            },
            event = events.next() => match event {
                Some(Ok(Event::Key(event))) => Key::of(event).map_or(Next::Draw, |key| page.press(key)),
                Some(Ok(_)) => Next::Draw,
                // The terminal has gone.
                Some(Err(_)) | None => Next::End,
            },
            () = ends.one() => Next::End,
            () = clock::sleep(DRAWN_EVERY) => Next::Draw,
        };
        match next {
            Next::Draw => {}
            Next::Redraw => screen.clear()?,
            Next::Suspend => screen.suspend()?,
            Next::End => return Ok(page),
        }
    }
}

/// Signals that end the page as `q` does: the terminal is put back first.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn one(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}
