//! `wa-agent status`: the primary master's view, or that of any master that answers.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::view::{self, View, exit_of};
use crate::cli::Reach;
use crate::exit::Exit;
use crate::sys::clock;

/// Above the plain page where a program is built without the live one.
const LIVE_ELSEWHERE: &str = "Ctrl-C ends. The live page with keys and curves is in the packages; in the sources: cargo run --release --features watch -- status --watch";

/// Asks and prints; with `watch` again each second, or as a live page where a terminal looks.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, watch: bool) -> anyhow::Result<Exit> {
    #[cfg(feature = "watch")]
    if watch && !reach.json && super::watch::possible() {
        return super::watch::run(reach);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        loop {
            let exit = once(reach, watch).await?;
            if !watch {
                return Ok(exit);
            }
            clock::sleep(Duration::from_secs(1)).await;
        }
    })
}

async fn once(reach: &Reach, watch: bool) -> anyhow::Result<Exit> {
    let found = View::find(reach.config.as_deref()).await?;
    let mut status = match found.status().await {
        Ok(status) => status,
        Err(nothing) => return Ok(nothing.told()),
    };
    let remarks = found.remarks(reach.config.as_deref()).await;
    remarks
        .into_iter()
        .for_each(|remark| view::add(&mut status, remark));
    if reach.json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        if watch {
            clear();
        }
        styled!("{}", super::render::cluster(&status));
    }
    Ok(exit_of(&status))
}

/// Before the next picture. What is no terminal has none of it.
fn clear() {
    styled!("\x1b[2J\x1b[H");
    if !cfg!(feature = "watch") && std::io::stdout().is_terminal() {
        println!("{LIVE_ELSEWHERE}\n");
    }
}
