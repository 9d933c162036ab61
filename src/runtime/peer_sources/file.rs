//! A file that lists peers: one `host:port` a line, and what follows a `#` is a comment.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Found, LOOK_AGAIN, Tell, Trouble};
use crate::config::is_host_and_port;

/// The longest file that is read: the most peers, each with a name as long as names can be.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// So many lines that are no peers are named, and so much of each.
const NAMED_MAX: usize = 8;
const SHOWN_MAX: usize = 64;

/// Reads the file again and again, and tells what changed.
pub(super) async fn follow(path: PathBuf, tell: Tell) {
    let mut before = None;
    loop {
        let reading = path.clone();
        // A file system that hangs must not keep the node waiting.
        let read = tokio::task::spawn_blocking(move || read(&reading)).await;
        let goes_on = match read.unwrap_or_else(|_| Err(io::Error::other("reading it panicked"))) {
            Ok(content) if before.as_ref() == Some(&content) => true,
            Ok(content) => {
                let (lines, garbage) = parse(&content);
                before = Some(content);
                let said = match complaint(&path, &garbage) {
                    Some(complaint) => tell.trouble(complaint).await,
                    None => true,
                };
                said && tell.found(Found::Lines(lines)).await
            }
            Err(error) => {
                let what = format!(
                    "the file {} of gossip.peers cannot be read: {error}; what it said before is kept",
                    path.display()
                );
                tell.trouble(Trouble::Nonsense(what)).await
            }
        };
        if !goes_on {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Anything else may have no end, or wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    match content.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes"))),
        false => Ok(content),
    }
}

/// The peers in a file, and its lines that are none, by number from 1.
fn parse(content: &[u8]) -> (Vec<String>, Vec<(usize, String)>) {
    let (mut peers, mut garbage) = (Vec::new(), Vec::new());
    let text = String::from_utf8_lossy(content);
    // Some editors begin a file with this mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let entry = line.split_once('#').map_or(line, |(entry, _)| entry).trim();
        match entry {
            "" => {}
            _ if is_host_and_port(entry) => peers.push(entry.to_owned()),
            _ => garbage.push((index + 1, entry.chars().take(SHOWN_MAX).collect())),
        }
    }
    peers.sort();
    peers.dedup();
    (peers, garbage)
}

fn complaint(path: &Path, garbage: &[(usize, String)]) -> Option<Trouble> {
    let named = garbage.iter().take(NAMED_MAX);
    let mut lines: Vec<String> =
        named.map(|(number, entry)| format!("line {number}: {entry:?}")).collect();
    match garbage.len() {
        0 => return None,
        count if count > NAMED_MAX => lines.push(format!("and {} more", count - NAMED_MAX)),
        _ => {}
    }
    let what = format!(
        "the file {} of gossip.peers has lines that are no \"host:port\", such as \"10.0.0.7:7946\"; they are skipped: {}",
        path.display(),
        lines.join(", ")
    );
    Some(Trouble::Nonsense(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_skipped_and_garbage_is_named_by_its_line() {
        let content = "\u{feff}# peers\n\n10.0.0.7:7946 # the first\r\n  b.example:1\nnonsense\n[::1]:2\nc:0\nb.example:1\n\
                       srv:_gossip._tcp.a\n";
        let (peers, garbage) = parse(content.as_bytes());
        assert_eq!(peers, ["10.0.0.7:7946", "[::1]:2", "b.example:1"]);
        let named: Vec<(usize, &str)> =
            garbage.iter().map(|(n, text)| (*n, text.as_str())).collect();
        assert_eq!(named, [(5, "nonsense"), (7, "c:0"), (9, "srv:_gossip._tcp.a")]);
        let Some(Trouble::Nonsense(what)) = complaint(Path::new("/p"), &garbage) else { panic!() };
        assert!(
            what.contains("/p") && what.contains("line 5: \"nonsense\", line 7: \"c:0\""),
            "{what}"
        );
        assert_eq!(complaint(Path::new("/p"), &[]), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_garbage_of_bounded_length() {
        let mut content = vec![0xff; 5_000];
        for _ in 0..20 {
            content.extend(b"\nx");
        }
        let (peers, garbage) = parse(&content);
        assert_eq!((peers.len(), garbage.len()), (0, 21));
        let Some(Trouble::Nonsense(what)) = complaint(Path::new("/p"), &garbage) else { panic!() };
        assert!(what.len() < 1_000 && what.ends_with("and 13 more"), "{what}");
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let why = |path: &Path| read(path).unwrap_err().to_string();
        assert!(why(dir.path()).contains("regular file"));
        let long = dir.path().join("long");
        std::fs::write(&long, vec![b'#'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(why(&long).contains("1048576 bytes"));
        std::fs::write(&long, vec![b'#'; FILE_BYTES_MAX as usize]).unwrap();
        assert_eq!(read(&long).unwrap().len() as u64, FILE_BYTES_MAX);
    }
}
