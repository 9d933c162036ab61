//! A TCP connection between two nodes that can be cut and joined again, to play a network partition.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Listens at an address of its own and passes everything on to a target, while it is not cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    route: watch::Sender<Route>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    target: Option<SocketAddr>,
    cut: bool,
}

impl Proxy {
    /// Starts to listen, with no target yet.
    pub async fn start() -> io::Result<Proxy> {
        let listening = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listening.local_addr()?;
        let (route, routes) = watch::channel(Route { target: None, cut: false });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listening.accept().await {
                tokio::spawn(pass_on(stream, routes.clone()));
            }
        });
        Ok(Proxy { address, route })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to this address from now on.
    pub fn lead_to(&self, target: SocketAddr) {
        self.route.send_modify(|route| route.target = Some(target));
    }

    /// Breaks every connection and lets none stand, or lets them through again.
    pub fn cut(&self, cut: bool) {
        self.route.send_modify(|route| route.cut = cut);
    }
}

async fn pass_on(mut near: TcpStream, mut routes: watch::Receiver<Route>) {
    let route = *routes.borrow_and_update();
    let Some(target) = route.target.filter(|_| !route.cut) else { return };
    let passing = async {
        let mut far = TcpStream::connect(target).await?;
        far.set_nodelay(true)?;
        near.set_nodelay(true)?;
        copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        // Either end closing or breaking is the end of the connection, as without a proxy.
        _ = passing => {}
        _ = routes.wait_for(|now| *now != route) => {}
    }
}
