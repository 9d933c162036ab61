//! What the recorder wrote down.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// One change of the directory, or a remark. `handle` stands for an open file or directory.
#[derive(Debug)]
pub enum Record {
    Opened { handle: u64, created: bool, path: PathBuf },
    Written { handle: u64, offset: u64, data: Vec<u8> },
    Resized { handle: u64, length: u64 },
    SyncBegan { sync: u64 },
    SyncEnded { handle: u64, sync: u64 },
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf },
    MadeDir { path: PathBuf },
    RemovedDir { path: PathBuf },
    Noted(String),
}

/// Reads a log; see `recorder.c` for its form.
pub fn read(log: &Path) -> io::Result<Vec<Record>> {
    let bytes = std::fs::read(log)?;
    let (mut rest, mut records) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        records.push(read_one(&mut rest)?);
    }
    Ok(records)
}

fn read_one(from: &mut &[u8]) -> io::Result<Record> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    let (handle, second, _) = (number(from)?, number(from)?, number(from)?);
    let (first_text, second_text) = (bytes(from)?, bytes(from)?);
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
    Ok(match kind[0] {
        b'o' => Record::Opened { handle, created: second != 0, path: path(&first_text) },
        b'w' => Record::Written { handle, offset: second, data: first_text },
        b't' => Record::Resized { handle, length: second },
        b'b' => Record::SyncBegan { sync: second },
        b'e' => Record::SyncEnded { handle, sync: second },
        b'r' => Record::Renamed { from: path(&first_text), to: path(&second_text) },
        b'u' => Record::Removed { path: path(&first_text) },
        b'm' => Record::MadeDir { path: path(&first_text) },
        b'd' => Record::RemovedDir { path: path(&first_text) },
        b'n' => Record::Noted(String::from_utf8_lossy(&first_text).trim_end().to_owned()),
        _ => panic!("the recorder cannot follow: {}", String::from_utf8_lossy(&first_text)),
    })
}

fn number(from: &mut &[u8]) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn bytes(from: &mut &[u8]) -> io::Result<Vec<u8>> {
    let length = number(from)?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
