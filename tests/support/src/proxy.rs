//! A TCP connection between two nodes that can be cut and joined again, to play a network partition. The demonstration has its
//! own, since a published program cannot depend on this package.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Listens at an address of its own and passes everything on to a target, while it is not cut.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    route: watch::Sender<Route>,
}

/// One way through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who dials to who listens.
    There,
    /// From who listens to who has dialed.
    Back,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    target: Option<SocketAddr>,
    /// By way.
    cut: [bool; 2],
}

impl Proxy {
    /// Starts to listen, with no target yet.
    pub async fn start() -> io::Result<Proxy> {
        let listening = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listening.local_addr()?;
        let (route, routes) = watch::channel(Route { target: None, cut: [false; 2] });
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

    /// Holds back whatever is sent, without a word to either end and without closing anything, as a network does that drops what it is
    /// given; or passes it on again, with what was held back first, as what was dropped is sent again.
    pub fn cut(&self, cut: bool) {
        self.route.send_modify(|route| route.cut = [cut; 2]);
    }

    /// As [`cut`](Self::cut), one way alone.
    pub fn cut_one_way(&self, way: Way, cut: bool) {
        self.route.send_modify(|route| route.cut[way as usize] = cut);
    }
}

async fn pass_on(near: TcpStream, mut routes: watch::Receiver<Route>) {
    // What answers the first packet of a connection is lost on the way back.
    let Some(target) = until_passing(&mut routes, Way::There).await else { return };
    if until_passing(&mut routes, Way::Back).await != Some(target) {
        return;
    }
    let passing = async {
        let far = TcpStream::connect(target).await?;
        far.set_nodelay(true)?;
        near.set_nodelay(true)?;
        let (mut from_near, mut to_near) = near.into_split();
        let (mut from_far, mut to_far) = far.into_split();
        let mut back = routes.clone();
        tokio::try_join!(
            pass(&mut from_near, &mut to_far, &mut routes, Way::There),
            pass(&mut from_far, &mut to_near, &mut back, Way::Back)
        )
    };
    // Either end closing or breaking is the end of the connection, as without a proxy, and so is a target that has moved.
    let _: io::Result<_> = passing.await;
}

/// Waits until what is sent this way passes. `None` if there is nowhere to lead, or the proxy has ended.
async fn until_passing(routes: &mut watch::Receiver<Route>, way: Way) -> Option<SocketAddr> {
    routes.wait_for(|route| !route.cut[way as usize]).await.ok()?.target
}

/// Passes on what comes, until either end closes.
async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    routes: &mut watch::Receiver<Route>,
    way: Way,
) -> io::Result<()> {
    let ended = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let target = routes.borrow().target;
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            moved = routes.wait_for(|route| route.target != target) => {
                drop(moved);
                return Err(ended());
            }
        };
        if until_passing(routes, way).await != target || read == 0 {
            return Err(ended());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
