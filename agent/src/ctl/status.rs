//! `wa-agent status`: the primary master's view, or that of any master that answers.

use std::time::Duration;

use super::view::View;
use crate::api::control::ClusterStatus;
use crate::cli::Reach;
use crate::exit::Exit;
use crate::sys::clock;

/// 3 when something is wrong; remarks on the layout, and what operators switched off, are not.
fn exit(status: &ClusterStatus) -> Exit {
    match status.wrong() {
        true => Exit::Refuted,
        false => Exit::Ok,
    }
}

/// Asks and prints; with `watch` again each second.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(reach: &Reach, watch: bool) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        loop {
            let view = View::find(reach.config.as_deref()).await?;
            let status = match view.status().await {
                Ok(mut status) => {
                    let files = view.file_remarks(reach.config.as_deref());
                    for remark in view.public_remarks().await.into_iter().chain(files) {
                        status.problems.push(remark.line());
                        status.judged.push(remark);
                    }
                    Ok(status)
                }
                Err(nothing) => Err(nothing),
            };
            let exit = match status {
                Ok(status) if reach.json => {
                    println!("{}", serde_json::to_string(&status)?);
                    exit(&status)
                }
                Ok(status) => {
                    if watch {
                        styled!("\x1b[2J\x1b[H");
                    }
                    styled!("{}", super::render::cluster(&status));
                    exit(&status)
                }
                Err(nothing) => nothing.told(),
            };
            if !watch {
                return Ok(exit);
            }
            clock::sleep(Duration::from_secs(1)).await;
        }
    })
}
