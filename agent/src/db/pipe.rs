//! A socket of this process, behind which each connection goes on to the address of a name that answers first.
//! Speaks no protocol: what one side ends, the other side reads to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use super::DbError;
use crate::sys::dial::{DialError, Dialer};

/// When one side has ended, the other one may say its last words for so long.
const FAREWELL: Duration = Duration::from_secs(2);

/// Takes connections until it is dropped; those that are through stay.
#[derive(Debug)]
pub(super) struct Pipe {
    path: PathBuf,
    failed: Arc<ArcSwapOption<DialError>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Pipe {
    /// To a name; each connection is dialled within this time.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub(super) fn lay(
        dialer: &Dialer,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<Self, DbError> {
        let number = getrandom::u64().unwrap_or_default();
        // An abstract address: no file, and gone with the process.
        let path = PathBuf::from(format!("\0wa-agent-database-{number:016x}"));
        let listener = UnixListener::bind(&path).map_err(sqlx::Error::Io)?;
        let failed = Arc::<ArcSwapOption<DialError>>::default();
        let (dialer, host, told) = (dialer.clone(), host.to_owned(), Arc::clone(&failed));
        let serving = tokio::spawn(async move {
            // The driver opens no more than its pool may have; strangers are turned away.
            while let Ok((inside, _)) = listener.accept().await {
                let of = inside.peer_cred().ok().and_then(|peer| peer.pid());
                if of.is_none_or(|pid| u32::try_from(pid) != Ok(std::process::id())) {
                    continue;
                }
                let (dialer, host, told) = (dialer.clone(), host.clone(), Arc::clone(&told));
                tokio::spawn(async move {
                    match dialer.connect(&host, port, within).await {
                        Ok(outside) => {
                            told.store(None);
                            join(inside, outside).await;
                        }
                        Err(error) => told.store(Some(Arc::new(error))),
                    }
                });
            }
        });
        Ok(Self {
            path,
            failed,
            serving,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the last connection did not get through.
    pub(super) fn failed(&self) -> Option<Arc<DialError>> {
        self.failed.load_full()
    }
}

/// Carries bytes until either side ends. The other one is let finish: a driver that takes leave of a server which has hung up
/// would else be told that its connection broke.
async fn join(inside: UnixStream, outside: TcpStream) {
    let _ = outside.set_nodelay(true);
    let (from_us, to_us) = inside.into_split();
    let (from_server, to_server) = outside.into_split();
    let mut up = std::pin::pin!(carry(from_us, to_server));
    let mut down = std::pin::pin!(carry(from_server, to_us));
    tokio::select! {
        () = &mut up => drop(tokio::time::timeout(FAREWELL, down).await),
        () = &mut down => drop(tokio::time::timeout(FAREWELL, up).await),
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
