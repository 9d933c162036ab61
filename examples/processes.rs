//! Several processes of one program on a machine. Each takes a slot, and one that is started in the place of another takes its slot.

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tallymesh::{Config, Limit, Limiter, Request, Window};

/// Answers whether each user on its standard input may book.
#[tokio::main(flavor = "current_thread")]
async fn worker(data_dir: &str, listen: &str) -> Result<(), Box<dyn Error>> {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let config = Config::builder("api")
        .data_dir(data_dir)
        .slots(6)
        .listen(listen)
        // `ready` waits for those that answer; slots that are empty do not.
        .sync_timeout(Duration::ZERO)
        .limit(Limit::new("bookings per user", 3, window).per("user"))
        .build()?;
    let limiter = Limiter::open(config).await?;
    limiter.ready().await;
    println!("{}", limiter.slot().unwrap_or_default());
    for user in stdin().lines() {
        let user = user?;
        let booking = Request::new().with("user", &user);
        println!("{}", limiter.acquire_durable(&booking).await?.is_allowed());
    }
    limiter.close().await?;
    Ok(())
}

struct Worker {
    process: Child,
    slot: String,
    asked: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start(data_dir: &str, listen: &str) -> Result<Worker, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([data_dir, listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asked = process.stdin.take().ok_or("no standard input")?;
        let mut answers =
            BufReader::new(process.stdout.take().ok_or("no standard output")?).lines();
        let slot = answers.next().ok_or("it did not start")??;
        Ok(Worker { process, slot, asked, answers })
    }

    fn may_book(&mut self, user: &str) -> Result<bool, Box<dyn Error>> {
        writeln!(self.asked, "{user}")?;
        Ok(self.answers.next().ok_or("no answer")?? == "true")
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [data_dir, listen] = &args[..] {
        return worker(data_dir, listen);
    }
    // The parent.
    let dir = tempfile::tempdir()?;
    let data_dir = dir.path().to_str().ok_or("a path that is no text")?;
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Worker::start(data_dir, &listen)?);
    }
    let mut ended = workers.remove(1);
    for _ in 1..=3 {
        assert!(ended.may_book("u7")?);
    }
    println!("the process in slot {} allowed three calls, and is killed", ended.slot);
    ended.process.kill()?;
    ended.process.wait()?;

    let mut next = Worker::start(data_dir, &listen)?;
    assert_eq!(next.slot, ended.slot);
    assert!(!next.may_book("u7")?);
    println!("the next one took slot {}, and denied the fourth", next.slot);
    workers.push(next);

    for Worker { mut process, asked, answers, .. } in workers {
        drop((asked, answers));
        assert!(process.wait()?.success());
    }
    Ok(())
}
