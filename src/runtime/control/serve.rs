//! Serving the connections of the control socket.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::{Answers, CONNECTIONS_MAX, LINE_BYTES_MAX, NoLine};
use crate::log_line;

/// How long a line may take to come, from the connection or the last answer on.
const LINE_TAKES_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to read an answer.
const ANSWER_TAKES_MAX: Duration = Duration::from_secs(10);
/// How long to wait when a connection cannot be accepted, as when the process has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A socket, and what answers there.
pub(super) struct Serving {
    runtime: Runtime,
    listener: StdListener,
    answers: Arc<dyn Answers>,
    stop: watch::Receiver<bool>,
}

impl Serving {
    pub(super) fn new(
        listener: StdListener,
        answers: Arc<dyn Answers>,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Serving> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Serving { runtime, listener, answers, stop })
    }

    /// Serves until it is told to stop. Connections that are open then end.
    pub(super) fn run(mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                // An error means that the socket's owner is gone, which is an end as well.
                _ = self.stop.wait_for(|stop| *stop) => {}
                () = accept_all(self.listener, &self.answers) => {}
            }
        });
        self.runtime.shutdown_background();
    }
}

async fn accept_all(listener: StdListener, answers: &Arc<dyn Answers>) {
    let Ok(listener) = UnixListener::from_std(listener) else { return };
    let served = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        if let Err(why) = check_owner(&stream) {
            log_line::write(|| {
                tracing::warn!("a connection to the control socket was closed: {why}")
            });
            continue;
        }
        let answers = answers.clone();
        match served.clone().try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(async move {
                    let _ = serve(stream, &*answers).await;
                    drop(place);
                });
            }
            Err(_) => {
                let busy = answers.answer(Err(NoLine::Busy)).await;
                // It fits in the socket's buffer, which is empty; a client that is gone need not be told.
                let _ = stream.try_write(format!("{busy}\n").as_bytes());
                let _ = timeout(ACCEPT_AGAIN, stream.shutdown()).await;
            }
        }
    }
}

/// Whether the other end is a process of this user, or of the superuser, who could do all of this anyway.
fn check_owner(stream: &UnixStream) -> Result<(), String> {
    let owner = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if [owner, 0].contains(&peer.uid()) => Ok(()),
        Ok(peer) => Err(format!("it is of user {}, and this node of user {owner}", peer.uid())),
        Err(error) => Err(format!("whose it is, the system does not say: {error}")),
    }
}

async fn serve(mut stream: UnixStream, answers: &dyn Answers) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading);
    loop {
        let read = timeout(LINE_TAKES_MAX, next_line(&mut reading)).await;
        let asked = match read.unwrap_or(Ok(Some(Err(NoLine::TooSlow))))? {
            Some(asked) => asked,
            None => return Ok(()),
        };
        let is_last = asked.is_err();
        let mut answer = answers.answer(asked).await;
        answer.push('\n');
        timeout(ANSWER_TAKES_MAX, writing.write_all(answer.as_bytes())).await??;
        if is_last {
            return writing.shutdown().await;
        }
    }
}

/// The next line without its end; `None` at the end of what comes. A part of a line at the end is none.
async fn next_line(
    reading: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<Result<String, NoLine>>> {
    let mut line = Vec::new();
    loop {
        let some = reading.fill_buf().await?;
        if some.is_empty() {
            return Ok(None);
        }
        let end = some.iter().position(|byte| *byte == b'\n');
        let piece = some.get(..end.unwrap_or(some.len())).unwrap_or_default();
        if line.len() + piece.len() > LINE_BYTES_MAX {
            return Ok(Some(Err(NoLine::TooLong)));
        }
        line.extend_from_slice(piece);
        let taken = piece.len() + usize::from(end.is_some());
        reading.consume(taken);
        if end.is_some() {
            return Ok(Some(String::from_utf8(line).map_err(|_| NoLine::NotText)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(bytes: &[u8]) -> Vec<Result<String, NoLine>> {
        let mut reading = BufReader::with_capacity(7, bytes);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut reading).await.unwrap() {
            let is_last = line.is_err();
            lines.push(line);
            if is_last {
                break;
            }
        }
        lines
    }

    #[tokio::test]
    async fn lines_are_bounded_text() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(lines(b"a\n\nlonger than the buffer\ncut").await.len(), 3);
        assert_eq!(lines(b"a\nlonger than it\n").await, [ok("a"), ok("longer than it")]);
        assert_eq!(lines(b"a\n\xff\nb\n").await, [ok("a"), Err(NoLine::NotText)]);
        let long = |bytes: usize| [vec![b'x'; bytes], vec![b'\n']].concat();
        assert!(lines(&long(LINE_BYTES_MAX)).await[0].is_ok());
        assert_eq!(lines(&long(LINE_BYTES_MAX + 1)).await, [Err(NoLine::TooLong)]);
        assert_eq!(lines(&vec![b'x'; 1 << 20]).await, [Err(NoLine::TooLong)]);
    }
}
