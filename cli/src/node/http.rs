//! The node's commands over HTTP/1.1, and its readiness for a probe: one request a connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tallymesh::Limiter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::control::Control;
use super::input::LINE_BYTES_MAX;

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a request may take to arrive, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long requests that are under way when the node ends may still take.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;

/// A listening socket, not served yet.
#[derive(Debug)]
pub(super) struct Http {
    listener: TcpListener,
    address: SocketAddr,
}

/// A command, and where its answer goes.
type Asked = (String, oneshot::Sender<Result<Vec<Value>, String>>);

impl Http {
    /// Listens at the address, with the slot added to its port.
    ///
    /// # Errors
    /// When there is no such port, or the system does not let it; the error names the address.
    pub(super) async fn listen(mut address: SocketAddr, slot: Option<usize>) -> io::Result<Http> {
        if let Some(slot) = slot.filter(|_| address.port() > 0) {
            let port = u16::try_from(slot).ok().and_then(|slot| address.port().checked_add(slot));
            let none = || {
                let why = format!(
                    "--http {address}: there is no port that is {slot} more, for this slot"
                );
                io::Error::new(io::ErrorKind::InvalidInput, why)
            };
            address.set_port(port.ok_or_else(none)?);
        }
        let refused = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen at {address} (--http): {error}"))
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Http { listener, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until the end; those that have arrived by then are answered.
    pub(super) async fn serve(self, limiter: &Limiter, end: impl Future<Output = ()>) {
        let mut control = Control::new(limiter);
        let (ask, mut asked) = mpsc::channel(CONNECTIONS_MAX);
        let mut connections = JoinSet::new();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, limiter.clone(), ask.clone()));
                    }
                    // Such as too many open files: those that are open end.
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(one) = asked.recv() => answer(&mut control, one).await,
                Some(_) = connections.join_next() => {}
            }
        }
        drop((self.listener, ask));
        let rest = async {
            while let Some(one) = asked.recv().await {
                answer(&mut control, one).await;
            }
            while connections.join_next().await.is_some() {}
        };
        if timeout(LAST_REQUESTS, rest).await.is_err() {
            tracing::warn!("requests that were not answered in time are given up");
        }
    }
}

async fn answer(control: &mut Control<'_>, (line, tell): Asked) {
    // A client that is gone misses its answer.
    let _ = tell.send(control.answer(&line).await);
}

/// One request and its answer. A client that breaks off is not worth a word.
async fn connection(mut stream: TcpStream, limiter: Limiter, ask: mpsc::Sender<Asked>) {
    let exchange = async {
        let (status, lines) = match request(&mut stream).await? {
            Ok(Request::Ready) => readiness(&limiter),
            Ok(Request::Command(line)) => command(&limiter, line, &ask).await,
            Err((status, why)) => (status, vec![json!({ "error": why })]),
        };
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
        stream.shutdown().await
    };
    if let Ok(Err(error)) = timeout(PATIENCE, exchange).await {
        tracing::debug!(%error, "a request was broken off");
    }
}

const OK: &str = "200 OK";
const BAD: &str = "400 Bad Request";

fn readiness(limiter: &Limiter) -> (&'static str, Vec<Value>) {
    let status = limiter.status();
    let code = if status.ready { OK } else { "503 Service Unavailable" };
    (code, vec![json!({ "ready": status.ready, "waiting_for": status.waiting_for })])
}

async fn command(
    limiter: &Limiter,
    line: String,
    ask: &mpsc::Sender<Asked>,
) -> (&'static str, Vec<Value>) {
    let why = match line.split_whitespace().next() {
        // Commands are answered one after the other, so none may wait.
        Some("ready") => return readiness(limiter),
        Some("close") => "close is no command over HTTP: SIGTERM ends the node",
        None => "the body is a command, such as acquire session=s1; `help` lists them",
        Some(_) => {
            let (tell, told) = oneshot::channel();
            // Both fail only when the node has ended.
            let answer = match ask.send((line, tell)).await {
                Ok(()) => told.await.unwrap_or_else(|_| Err("the node has ended".to_owned())),
                Err(_) => Err("the node has ended".to_owned()),
            };
            return match answer {
                Ok(lines) => (OK, lines),
                Err(why) => (BAD, vec![json!({ "error": why })]),
            };
        }
    };
    (BAD, vec![json!({ "error": why })])
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Ready,
    Command(String),
}

type Refusal = (&'static str, &'static str);

/// Reads one request, or returns the status and the words of its refusal.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Result<Request, Refusal>> {
    let mut bytes = Vec::new();
    let end = loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if end.unwrap_or(bytes.len()) > HEAD_BYTES_MAX {
            return Ok(Err((
                "431 Request Header Fields Too Large",
                "the head is longer than 16 KiB",
            )));
        }
        if let Some(end) = end {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let mut body = bytes.split_off(end + 4);
    let Ok(head) = std::str::from_utf8(&bytes) else {
        return Ok(Err((BAD, "the head is not UTF-8")));
    };
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
        ("GET", "/ready") => return Ok(Ok(Request::Ready)),
        ("POST", "/") => {}
        (_, "/") => return Ok(Err(("405 Method Not Allowed", "POST a command to /"))),
        (_, "/ready") => return Ok(Err(("405 Method Not Allowed", "GET /ready"))),
        _ => return Ok(Err(("404 Not Found", "there are GET /ready and POST /"))),
    }
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Err(("411 Length Required", "send the body with a content-length")));
        }
        if name.eq_ignore_ascii_case("content-length") {
            let Ok(bytes) = value.trim().parse::<usize>() else {
                return Ok(Err((BAD, "content-length is not a number")));
            };
            length = bytes;
        }
    }
    if length > LINE_BYTES_MAX {
        return Ok(Err(("413 Content Too Large", "a command is at most 64 KiB")));
    }
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    body.truncate(length);
    let Ok(line) = String::from_utf8(body) else {
        return Ok(Err((BAD, "the command is not UTF-8")));
    };
    match line.trim_end_matches(['\r', '\n']) {
        line if line.contains(['\r', '\n']) => Ok(Err((BAD, "one command a request"))),
        line => Ok(Ok(Request::Command(line.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Request, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stream = text;
        match runtime.block_on(request(&mut stream)) {
            Ok(read) => read.map_err(|(status, _)| status[..3].to_owned()),
            Err(error) => Err(error.kind().to_string()),
        }
    }

    fn post(head: &str, body: &str) -> Result<Request, String> {
        read(format!("POST / HTTP/1.1\r\nhost: x\r\n{head}\r\n{body}").as_bytes())
    }

    #[test]
    fn a_request_is_read_whole_and_what_is_none_is_refused() {
        let command = |line: &str| Ok(Request::Command(line.to_owned()));
        assert_eq!(read(b"GET /ready HTTP/1.1\r\n\r\n"), Ok(Request::Ready));
        assert_eq!(post("Content-Length: 5\r\n", "state"), command("state"));
        assert_eq!(post("content-length: 6\r\n", "state\nmore"), command("state"));
        assert_eq!(post("", ""), command(""));
        let long = format!("x: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        for (refused, status) in [
            (read(b"GET / HTTP/1.1\r\n\r\n"), "405"),
            (read(b"POST /ready HTTP/1.1\r\n\r\n"), "405"),
            (read(b"GET /state HTTP/1.1\r\n\r\n"), "404"),
            (read(b"nonsense\r\n\r\n"), "404"),
            (read(b"\xff\r\n\r\n"), "400"),
            (post("transfer-encoding: chunked\r\n", "5\r\nstate\r\n0\r\n\r\n"), "411"),
            (post("content-length: -1\r\n", ""), "400"),
            (post("content-length: 65537\r\n", ""), "413"),
            (post("content-length: 11\r\n", "state\nstate"), "400"),
            (post(&long, ""), "431"),
            (post("content-length: 6\r\n", "state"), "unexpected end of file"),
            (read(b""), "unexpected end of file"),
        ] {
            assert_eq!(refused, Err(status.to_owned()));
        }
        assert_eq!(
            read(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n\xff"),
            Err("400".to_owned())
        );
    }
}
