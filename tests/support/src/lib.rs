//! What several tests share: waiting, copies of directories, harm to them, seeds, a proxy, a hostile peer, and a load
//! in a process of its own; the corpora of `fuzz/`; an authority of certificates.

#[cfg(feature = "certificates")]
pub mod authority;
pub mod child;
pub mod corpus;
pub mod fuzz;
pub mod harm;
pub mod hostile;
pub mod load;
pub mod seed;

mod adding;
mod copy;
mod log;
mod moment;
mod proxy;
mod until;

pub use adding::{Added, Adding};
pub use copy::copy_dir;
pub use log::Log;
pub use moment::copy_moment;
pub use proxy::{Proxy, Way};
pub use until::until;
