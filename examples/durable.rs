//! Durable: what `acquire_durable` admitted is there after a crash. The example starts itself, and that process aborts.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tallymesh::{Config, Limit, Limiter, Request, Window};

async fn open(data_dir: &Path) -> Result<Limiter, Box<dyn std::error::Error>> {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let orders = Limit::new("orders per user", 1, window).per("user");
    let config = Config::builder("a").data_dir(data_dir).limit(orders).build()?;
    Ok(Limiter::open(config).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order = Request::new().with("user", "u7");
    if let Some(data_dir) = std::env::args_os().nth(1) {
        let limiter = open(Path::new(&data_dir)).await?;
        let decision = limiter.acquire_durable(&order).await?;
        println!("first process: allowed: {}, and on disk; now it crashes", decision.is_allowed());
        std::process::abort();
    }

    let dir = tempfile::tempdir()?;
    let status = Command::new(std::env::current_exe()?).arg(dir.path()).status()?;
    assert_eq!(status.code(), None, "it was ended by a signal");

    let limiter = open(dir.path()).await?;
    let decision = limiter.acquire(&order);
    println!("second process: allowed: {}", decision.is_allowed());
    assert!(!decision.is_allowed());
    limiter.close().await?;
    Ok(())
}
