//! Where operators ask a node: the path of its control socket.

use std::path::{Path, PathBuf};

use super::error::invalid;
use super::validate::Values;
use super::{Config, ConfigError};

/// What a config says of the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// There is none.
    Off,
    /// It is at this path.
    At(PathBuf),
}

/// The word that stands for no socket.
pub(super) const OFF: &str = "off";

/// The longest path, in bytes: what every Unix has room for in the address of a socket.
const PATH_BYTES_MAX: usize = 100;
/// The most that the number of a slot adds to it.
const SLOT_BYTES: usize = "-1023".len();

impl Control {
    /// What these settings ask for; `None` where they say nothing.
    pub(super) fn of(values: &Values) -> Result<Option<Control>, ConfigError> {
        let Some(path) = values.path("node.control")? else { return Ok(None) };
        if path == Path::new(OFF) {
            return Ok(Some(Control::Off));
        }
        let refused = |allowed: &str| Err(invalid("node.control", format!("{path:?}"), allowed));
        if !cfg!(unix) {
            return refused("only \"off\": this system has no unix sockets");
        }
        if path.file_name().is_none() {
            return refused("the path of a file that is not there yet, or \"off\"");
        }
        let slot_bytes = if values.is_set("node.slots") { SLOT_BYTES } else { 0 };
        let bytes = path.as_os_str().len() + slot_bytes;
        if bytes > PATH_BYTES_MAX {
            let allowed = format!(
                "a path of at most {} bytes, this one has {}; a shorter one, such as in /run, or \"off\"",
                PATH_BYTES_MAX - slot_bytes,
                bytes - slot_bytes
            );
            return refused(&allowed);
        }
        Ok(Some(Control::At(path)))
    }

    /// That of the process in this slot.
    pub(super) fn in_slot(&self, slot: usize) -> Control {
        let Control::At(path) = self else { return Control::Off };
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{slot}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        Control::At(path.with_file_name(name))
    }
}

impl Config {
    /// Where the [control socket](super::ConfigBuilder::control) is to be; with [`slots`](super::ConfigBuilder::slots), what each of
    /// them adds its number to. `None` if there is to be none.
    ///
    /// ```
    /// use std::path::Path;
    /// use tallymesh::Config;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # if cfg!(unix) {
    /// let config = Config::builder("a").in_memory().control("/run/limits.sock").build()?;
    /// assert_eq!(config.control(), Some(Path::new("/run/limits.sock")));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn control(&self) -> Option<&Path> {
        match &self.control {
            Some(Control::At(path)) => Some(path),
            Some(Control::Off) | None => None,
        }
    }

    /// Where it is to be of the process in this slot, where there are [`slots`](super::ConfigBuilder::slots).
    ///
    /// ```
    /// use std::path::PathBuf;
    /// use tallymesh::Config;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # if cfg!(unix) {
    /// let config = Config::builder("a").in_memory().listen("127.0.0.1:7946").slots(4);
    /// let config = config.control("/run/limits.sock").build()?;
    /// assert_eq!(config.control_in_slot(2), Some(PathBuf::from("/run/limits-2.sock")));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn control_in_slot(&self, slot: usize) -> Option<PathBuf> {
        self.in_slot(slot).control().map(Path::to_owned)
    }

    /// Whether the config says anything of the control socket: a path, or `off`. The program has one by default, a library none.
    pub fn has_control(&self) -> bool {
        self.control.is_some()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn control(path: &str, slots: Option<usize>) -> Result<Config, ConfigError> {
        let builder = Config::builder("a").in_memory().control(path).listen("127.0.0.1:7946");
        match slots {
            Some(slots) => builder.slots(slots).build(),
            None => builder.build(),
        }
    }

    #[test]
    fn a_path_has_at_most_a_hundred_bytes() {
        let path = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
        assert_eq!(control(&path(100), None).unwrap().control(), Some(Path::new(&path(100))));
        for (bytes, slots, most) in [(101, None, "at most 100 bytes"), (96, Some(2), "at most 95")]
        {
            let message = control(&path(bytes), slots).unwrap_err().to_string();
            assert!(message.contains("node.control") && message.contains(most), "{message}");
            assert!(message.contains(&format!("has {bytes}")), "{message}");
        }
        assert!(control(&path(95), Some(2)).is_ok());
        assert!(control("/", None).unwrap_err().to_string().contains("path of a file"));
    }

    #[test]
    fn each_slot_has_its_own() {
        let name = |path: &str, slot: usize| {
            let config = control(path, Some(12)).unwrap().in_slot(slot);
            config.control().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name("/run/limits.sock", 11), "/run/limits-11.sock");
        assert_eq!(name("limits", 0), "limits-0");
    }

    #[test]
    fn a_config_without_one_is_told_from_one_that_wants_none() {
        let unset = Config::builder("a").in_memory().build().unwrap();
        let off = control("off", None).unwrap();
        assert_eq!((unset.has_control(), unset.control()), (false, None));
        assert_eq!((off.has_control(), off.control()), (true, None));
        // What is off stays so.
        assert!(off.to_builder().build().unwrap().has_control());
        assert_eq!(off.in_slot(3).control(), None);
    }
}
