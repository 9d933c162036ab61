//! A connection to a control socket.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The version of the protocol.
const VERSION: u64 = 1;
/// How long an answer may take. A node answers within milliseconds, unless it is halted.
const ANSWER_TAKES_MAX: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes; a node's are shorter.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A connection that requests are sent over, one after the other.
pub struct Client {
    stream: BufReader<UnixStream>,
    path: String,
}

impl Client {
    /// Connects to a node.
    ///
    /// # Errors
    /// When no node answers there, or it is not a process of this user.
    pub async fn connect(path: &Path) -> Result<Client, Box<dyn Error>> {
        let name = path.display().to_string();
        let stream = UnixStream::connect(path).await.map_err(|error| refused(&name, &error))?;
        check_server(path, &stream)?;
        Ok(Client { stream: BufReader::new(stream), path: name })
    }

    /// Sends a request, and returns what the node answers.
    ///
    /// # Errors
    /// When the node refuses it, does not answer in time, or ends.
    pub async fn ask(&mut self, mut request: Value) -> Result<Value, Box<dyn Error>> {
        request["v"] = VERSION.into();
        let mut line = request.to_string();
        line.push('\n');
        let mut answer = Vec::new();
        let asking = async {
            // Where it is closed, its last word may still be there to be read.
            let _ = self.stream.write_all(line.as_bytes()).await;
            let mut reading = (&mut self.stream).take(ANSWER_BYTES_MAX);
            reading.read_until(b'\n', &mut answer).await
        };
        let read = timeout(ANSWER_TAKES_MAX, asking).await;
        let read = read.map_err(|_| {
            let seconds = ANSWER_TAKES_MAX.as_secs();
            format!("{}: the node has not answered within {seconds} s; is it halted?", self.path)
        })?;
        if !matches!(read, Ok(1..)) {
            return Err(format!("{}: the node closed the connection", self.path).into());
        }
        let mut answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| format!("{}: the answer is none: {error}", self.path))?;
        match answer["error"]["message"].as_str() {
            Some(message) => Err(message.into()),
            None => Ok(answer["ok"].take()),
        }
    }
}

/// Another user's process at the path could answer anything.
fn check_server(path: &Path, stream: &UnixStream) -> Result<(), String> {
    let own = std::os::unix::fs::MetadataExt::uid(
        &std::fs::symlink_metadata(path)
            .map_err(|error| refused(&path.display().to_string(), &error))?,
    );
    let server = stream.peer_cred().map_err(|error| format!("{}: {error}", path.display()))?.uid();
    match server == own || server == 0 {
        true => Ok(()),
        false => Err(format!(
            "{}: a process of user {server} answers at a socket of user {own}, and is not asked",
            path.display()
        )),
    }
}

fn refused(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{path}: there is no such socket; does the node run, and with these settings?")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("{path}: no process answers; the node has ended without a word")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{path}: only the user that the node runs as may ask it, and root")
        }
        _ => format!("{path}: {error}"),
    }
}
