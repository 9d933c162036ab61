//! A redis-server of our own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Runs on a spare port, in a temporary directory and without persistence, until it is dropped.
pub struct RedisServer {
    process: Child,
    client: redis::Client,
    address: String,
    _directory: TempDir,
}

impl RedisServer {
    /// Nothing, if it is not installed.
    pub fn start() -> Option<RedisServer> {
        let directory = tempfile::tempdir().expect("the directory for temporary files is writable");
        let spare = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a port");
        let port = spare.local_addr().expect("it is bound").port().to_string();
        drop(spare);
        let started = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            note!("redis-server is not installed: Redis is left out");
            return None;
        };
        let address = format!("127.0.0.1:{port}");
        let client = redis::Client::open(format!("redis://{address}/"));
        let client = client.expect("the address is valid");
        let server = RedisServer { process, client, address, _directory: directory };
        server.wait();
        Some(server)
    }

    /// A new connection.
    pub fn connect(&self) -> redis::Connection {
        self.client.get_connection().expect("the server runs")
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Its number in the system.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    fn wait(&self) {
        for _ in 0..500 {
            if self.client.get_connection().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server was started and does not answer");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
