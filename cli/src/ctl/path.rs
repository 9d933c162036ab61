//! Where the program has a node's control socket if its settings do not say.

use std::path::{Path, PathBuf};

use tallymesh::{Config, ConfigError};

/// The config with a control socket: in the data directory, or where there is none, where the system has what runs.
///
/// # Errors
/// When the path is too long for a socket.
pub fn with_default(config: Config) -> Result<Config, ConfigError> {
    if config.has_control() {
        return Ok(config);
    }
    let path = match config.data_dir() {
        Some(dir) => dir.join("control.sock"),
        None => runtime_dir().join(format!("tallymesh-{}.sock", config.node_id())),
    };
    config.to_builder().control(path).build()
}

fn runtime_dir() -> PathBuf {
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    of_user.map_or_else(|| Path::new("/run").to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_beside_the_state_unless_the_settings_say() {
        let path = |config: tallymesh::ConfigBuilder| {
            let config = with_default(config.build().unwrap()).unwrap();
            config.control().map(Path::to_owned)
        };
        let config = || Config::builder("a");
        let said = path(config().data_dir("d"));
        assert_eq!(said, Some("d/control.sock".into()));
        assert_eq!(path(config().data_dir("d").control("/run/x")), Some("/run/x".into()));
        assert_eq!(path(config().data_dir("d").control("off")), None);
        let said = path(config().in_memory()).unwrap();
        assert!(said.ends_with("tallymesh-a.sock") && said.is_absolute(), "{said:?}");
        let long = config().data_dir("d".repeat(100)).build().unwrap();
        assert!(with_default(long).unwrap_err().to_string().contains("node.control"));
    }
}
