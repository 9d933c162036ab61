//! Why storage failed: backends are opaque, and say by the kind of error whether their content is damaged.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::error::Error;
use core::fmt;

/// Why a data directory, or the database in it, cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The file system returned an error.
    #[error("{doing} {place}: {source}; {advice}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file, as text.
        place: String,
        /// What to do about it.
        advice: &'static str,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The storage backend returned an error; what it holds is not in question.
    #[error("{backend}: {source}; {advice}")]
    Backend {
        /// The backend's name.
        backend: &'static str,
        /// What to do about it.
        advice: &'static str,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The storage backend says that what it holds is damaged.
    #[error("{what}")]
    Corrupt {
        /// What it said.
        what: String,
        /// Its own error, if it was one and not a panic.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// An earlier error ended the writing.
    #[error("writing ended at an earlier error")]
    GivenUp,
    /// The directory is held: one instance at a time works on it.
    #[error("data directory {place} is {by}")]
    Held {
        /// The directory.
        place: String,
        /// Who holds it.
        by: Holder,
    },
    /// The directory belongs to another node.
    #[error(
        "data directory {place} belongs to node {found:?}, this is node {expected:?}; choose the directory or node.id to match, \
         and never copy a data directory"
    )]
    OtherNode {
        /// The directory.
        place: String,
        /// The name in the directory.
        found: String,
        /// The name in the config.
        expected: String,
    },
    /// The directory was written by another version, or by something else.
    #[error(
        "data directory {place} is not one of this version: {why}; choose another data directory, or move it away"
    )]
    Foreign {
        /// The directory.
        place: String,
        /// What was found.
        why: String,
    },
    /// The directory has another format than this version reads or, offline, than it looks into.
    #[error(
        "data directory {place} has disk format {found}, and this version has format {read}; {}",
        match found > read {
            true => "use the version that wrote it, or a later one, or choose another data directory",
            false => "start its node with this version, which carries the directory over",
        }
    )]
    OtherFormat {
        /// The directory.
        place: String,
        /// The format that it has.
        found: u32,
        /// The format of this version.
        read: u32,
    },
    /// A database that was closed is still locked, by a thread that has not ended or by another program; what it holds is not in question.
    #[error("{place} is still in use after it was closed; try again, or stop what else uses it")]
    Busy {
        /// The database.
        place: String,
    },
    /// What the directory holds cannot be trusted.
    #[error(
        "{place} is damaged: {why}; when its node starts, it sets the damaged database aside and relearns the state from \
         its peers"
    )]
    Damaged {
        /// The database.
        place: String,
        /// What was found.
        why: String,
    },
    /// There is no such directory.
    #[error("{place} is no data directory: {why}")]
    Missing {
        /// The directory.
        place: String,
        /// What was found.
        why: String,
    },
}

/// Who holds a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// An instance in this process.
    ThisProcess,
    /// Another process, by its own word if it has left one.
    OtherProcess(Option<String>),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Holder::ThisProcess => {
                return f.write_str(
                    "open in this process already: close it first, or attach to it (clone what opened it; in Node.js, \
                     Limiter.attach)",
                );
            }
            Holder::OtherProcess(name) => name,
        };
        let name = name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        write!(
            f,
            "held by another process{name}; give each instance its own data directory, or stop that process"
        )
    }
}

impl StorageError {
    /// Whether it is about what the database holds, not about the file system around it.
    ///
    /// ```
    /// use tallymesh::{StorageError, check};
    ///
    /// /// What an operator does next.
    /// fn advice(error: &StorageError) -> &'static str {
    ///     match error.is_corrupt() {
    ///         true => "start the node: it sets the database aside and relearns the state from its peers",
    ///         false => "look at the path, its owner and the disk",
    ///     }
    /// }
    ///
    /// let error = check("no/such/directory").unwrap_err();
    /// assert_eq!(advice(&error), "look at the path, its owner and the disk");
    /// ```
    pub fn is_corrupt(&self) -> bool {
        matches!(self, StorageError::Corrupt { .. })
    }
}
