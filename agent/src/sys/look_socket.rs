//! One question and one answer over a local socket: how the host agent lets members of the group `wa` look.
//! Who may connect is decided by the kernel, by the socket's mode and its directory's. Knows nothing of what is asked.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Where the host agent listens.
pub const PATH: &str = "/run/wa-agent/look.sock";
/// Longest question, in bytes.
const QUESTION_LEN_MAX: usize = 256;
/// A question must be there this soon after the connection.
const QUESTION_WITHIN: Duration = Duration::from_secs(2);
/// Longest answer that is read, in bytes.
const ANSWER_LEN_MAX: u64 = 8 << 20;
/// For one answer to be taken by whoever asked.
const TAKE_WITHIN: Duration = Duration::from_secs(5);

/// Reads the question of an accepted connection: one line.
///
/// # Errors
/// When it does not come in time or is too long.
pub async fn question(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let read = async {
        let mut line = Vec::new();
        let mut buffer = [0; QUESTION_LEN_MAX];
        while !line.ends_with(b"\n") {
            let len = stream.read(&mut buffer).await?;
            line.extend_from_slice(&buffer[..len]);
            if len == 0 || line.len() > QUESTION_LEN_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(line)
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(QUESTION_WITHIN, read)
        .await
        .map_err(late)?
}

/// Answers, and ends the connection.
///
/// # Errors
/// When the other end is gone or does not read.
pub async fn answer(mut stream: UnixStream, bytes: &[u8]) -> io::Result<()> {
    let write = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(TAKE_WITHIN, write)
        .await
        .map_err(late)?
}

/// Asks, and waits for the whole answer.
///
/// # Errors
/// `PermissionDenied`: not a member; `NotFound`, `ConnectionRefused`: nobody listens.
pub async fn ask(path: &Path, question: &str, within: Duration) -> io::Result<Vec<u8>> {
    let exchange = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(question.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(within, exchange).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::gate_socket;

    /// Goal: a question is answered, and one that is too long, or breaks off, takes no memory and no answer.
    #[tokio::test]
    async fn a_question_is_bounded() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("look.sock");
        let within = Duration::from_secs(10);
        let missing = ask(&path, "x", within).await.expect_err("nobody listens");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let listener = gate_socket::listen(&path).expect("listening");
        let server = tokio::spawn(async move {
            let mut heard = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                match question(&mut stream).await {
                    Ok(line) => {
                        answer(stream, b"well").await.expect("answered");
                        heard.push(Ok(line));
                    }
                    Err(error) => heard.push(Err(error.kind())),
                }
            }
            heard
        });
        let good = ask(&path, "how", within).await.expect("answered");
        assert_eq!(good, b"well");
        // Refused before it was read whole: an empty answer, or a connection that broke.
        let long = ask(&path, &"x".repeat(4096), within).await;
        assert!(long.is_err() || long.is_ok_and(|answer| answer.is_empty()));
        let mut broken = UnixStream::connect(&path).await.expect("connected");
        broken.write_all(b"half").await.expect("sent");
        drop(broken);
        let refused = Err(io::ErrorKind::InvalidData);
        let heard = server.await.expect("ended");
        assert_eq!(heard, [Ok(b"how\n".to_vec()), refused.clone(), refused]);
    }
}
