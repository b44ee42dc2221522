//! The tokio runtime of a role: signals, stop, and the last deadline.
//! Runs whatever future it is handed.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// After the stop signal, a role may take this long; then the process ends all the same.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Runs a role until it ends by itself or is told to stop.
///
/// # Errors
/// What the role returns; an error of the runtime itself.
pub fn run<F, Fut, E>(role: F) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let role = role(stop.clone());
        tokio::pin!(role);
        tokio::select! {
            result = &mut role => return result.map_err(anyhow::Error::from),
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!(
            MESSAGE_ID = crate::log::message_id::ROLE_STOPPING,
            "told to stop; giving back what is held"
        );
        crate::sys::notify::stopping(STOP_MAX);
        stop.cancel();
        // Whoever types Ctrl-C again does not want to wait for the drain.
        tokio::select! {
            result = role => result.map_err(anyhow::Error::from),
            _ = int.recv() => Err(anyhow::anyhow!("told to stop a second time; ended by force")),
            () = crate::sys::clock::sleep(STOP_MAX) => Err(anyhow::anyhow!(
                "stopping took longer than {STOP_MAX:?}; ended by force"
            )),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}
