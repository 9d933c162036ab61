//! Where the library's log goes: to standard error, as in any other server.

use std::sync::Once;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const VARIABLE: &str = "TALLYMESH_LOG";

/// Starts the log, once in a process; at level `warn`, unless the environment says otherwise.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Levels, of all or by target. (A filter by fields and spans would be a regular expression engine more to download.)
        let wanted = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        // Else it prints each line that it cannot write, which panics for the same reason, in the thread that logs.
        let lines = lines.log_internal_errors(false);
        let log = tracing_subscriber::registry().with(lines.with_filter(filter));
        // An error says that there is a log already, which then is the better one.
        let _ = log.try_init();
    });
}
