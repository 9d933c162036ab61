//! The node's commands over HTTP/1.1, and its readiness for a probe: one request a connection.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tallymesh::Limiter;
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
async fn connection(stream: TcpStream, limiter: Limiter, ask: mpsc::Sender<Asked>) {
    let service = service_fn(|request| {
        let (limiter, ask) = (&limiter, &ask);
        async move { Ok::<_, Infallible>(respond(request, limiter, ask).await) }
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(PATIENCE, serving).await {
        tracing::debug!(%error, "a request was broken off");
    }
}

async fn respond<B>(
    request: Request<B>,
    limiter: &Limiter,
    ask: &mpsc::Sender<Asked>,
) -> Response<String>
where
    B: Body<Error: Error + Send + Sync + 'static>,
{
    let (status, lines) = match wanted(request).await {
        Ok(Wanted::Readiness) => readiness(limiter),
        Ok(Wanted::Answer(line)) => command(limiter, line, ask).await,
        Err((status, why)) => (status, vec![json!({ "error": why })]),
    };
    let mut response = Response::new(lines.iter().map(|line| format!("{line}\n")).collect());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, const { HeaderValue::from_static("application/json") });
    response
}

fn readiness(limiter: &Limiter) -> (StatusCode, Vec<Value>) {
    let status = limiter.status();
    let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, vec![json!({ "ready": status.ready, "waiting_for": status.waiting_for })])
}

async fn command(
    limiter: &Limiter,
    line: String,
    ask: &mpsc::Sender<Asked>,
) -> (StatusCode, Vec<Value>) {
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
                Ok(lines) => (StatusCode::OK, lines),
                Err(why) => (StatusCode::BAD_REQUEST, vec![json!({ "error": why })]),
            };
        }
    };
    (StatusCode::BAD_REQUEST, vec![json!({ "error": why })])
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Readiness,
    Answer(String),
}

type Refusal = (StatusCode, &'static str);

async fn wanted<B>(request: Request<B>) -> Result<Wanted, Refusal>
where
    B: Body<Error: Error + Send + Sync + 'static>,
{
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/ready") => return Ok(Wanted::Readiness),
        (&Method::POST, "/") => {}
        (_, "/") => return Err((StatusCode::METHOD_NOT_ALLOWED, "POST a command to /")),
        (_, "/ready") => return Err((StatusCode::METHOD_NOT_ALLOWED, "GET /ready")),
        _ => return Err((StatusCode::NOT_FOUND, "there are GET /ready and POST /")),
    }
    let bad = |why| (StatusCode::BAD_REQUEST, why);
    let body = Limited::new(request.into_body(), LINE_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => (StatusCode::PAYLOAD_TOO_LARGE, "a command is at most 64 KiB"),
        false => bad("the body does not arrive whole"),
    })?;
    let Ok(line) = String::from_utf8(body.to_bytes().into()) else {
        return Err(bad("the command is not UTF-8"));
    };
    match line.trim_end_matches(['\r', '\n']) {
        line if line.contains(['\r', '\n']) => Err(bad("one command a request")),
        line => Ok(Wanted::Answer(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use hyper::body::Bytes;

    use super::*;

    fn read(method: &str, path: &str, body: &[u8]) -> Result<Wanted, u16> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        runtime.block_on(wanted(request)).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_request_is_one_command_or_the_readiness_and_what_is_none_is_refused() {
        let command = |line: &str| Ok(Wanted::Answer(line.to_owned()));
        assert_eq!(read("GET", "/ready", b""), Ok(Wanted::Readiness));
        assert_eq!(read("POST", "/", b"state"), command("state"));
        assert_eq!(read("POST", "/", b"state\r\n"), command("state"));
        assert_eq!(read("POST", "/", b""), command(""));
        let longest = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(read("POST", "/", longest.as_bytes()), command(&longest));
        for (refused, status) in [
            (read("GET", "/", b""), 405),
            (read("POST", "/ready", b""), 405),
            (read("GET", "/state", b""), 404),
            (read("BREW", "/pot", b""), 404),
            (read("POST", "/", b"\xff"), 400),
            (read("POST", "/", b"state\nstate"), 400),
            (read("POST", "/", format!("{longest}x").as_bytes()), 413),
        ] {
            assert_eq!(refused, Err(status));
        }
    }
}
