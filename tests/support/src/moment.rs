//! A directory in use, as it was at one moment: what a kill leaves, which a copy made file by file is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Copies a directory as it was at one moment, while others write to it.
pub fn copy_moment(from: &Path, to: &Path) {
    let content = loop {
        // What two readings in a row found the same was so from the end of the first to the start of the second.
        if let Some(first) = read(from)
            && read(from).as_ref() == Some(&first)
        {
            break first;
        }
    };
    for (name, bytes) in content {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The content of every file by its path; `None` when one went away meanwhile.
fn read(dir: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let mut content = BTreeMap::new();
    for entry in std::fs::read_dir(dir).ok()? {
        let path = entry.ok()?.path();
        let name = Path::new(path.file_name()?);
        if path.is_dir() {
            let inner = read(&path)?;
            content.extend(inner.into_iter().map(|(inner, bytes)| (name.join(inner), bytes)));
        } else {
            content.insert(name.to_owned(), std::fs::read(&path).ok()?);
        }
    }
    Some(content)
}
