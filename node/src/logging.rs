//! Where the library's log goes: to standard error, as in any other server.

use std::sync::Once;

use tracing_subscriber::EnvFilter;

const VARIABLE: &str = "TALLYMESH_LOG";

/// Starts the log, once in a process; at level `warn`, unless the environment says otherwise.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("warn"));
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // Else it prints each line that it cannot write, which panics for the same reason, in the thread that logs.
        let log = log.log_internal_errors(false);
        // An error says that there is a log already, which then is the better one.
        let _ = log.try_init();
    });
}
