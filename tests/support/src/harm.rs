//! Harm to the files of a directory, drawn at random.

use std::fmt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::StdRng;

/// One harm, to one file.
#[derive(Debug, Clone)]
pub struct Harm {
    file: PathBuf,
    kind: Kind,
}

/// Offsets are fractions of the file's length, which the draw does not know.
#[derive(Debug, Clone)]
enum Kind {
    Flipped { offsets: Vec<f64> },
    Zeroed { offset: f64, block: usize },
    Truncated { offset: f64 },
    Missing,
    Emptied,
    Duplicated { from: f64, to: f64, block: usize },
    FromAnEarlierLife,
}

impl Harm {
    /// Half of all harm is to the database's own file.
    pub fn draw(random: &mut StdRng, dir: &Path) -> Harm {
        let files = files(dir);
        let file = match random.random() {
            true => PathBuf::from("db/db"),
            false => files[random.random_range(0..files.len())].clone(),
        };
        let block = if random.random() { 512 } else { 4096 };
        let mut offset = || random.random::<f64>();
        let offsets = [offset(), offset(), offset()];
        let kind = match random.random_range(0..7) {
            0 => Kind::Flipped { offsets: offsets[..random.random_range(1..=3)].to_vec() },
            1 => Kind::Zeroed { offset: offsets[0], block },
            2 => Kind::Truncated { offset: offsets[0] },
            3 => Kind::Missing,
            4 => Kind::Emptied,
            5 => Kind::Duplicated { from: offsets[0], to: offsets[1], block },
            _ => Kind::FromAnEarlierLife,
        };
        Harm { file, kind }
    }

    /// Does it to the directory; `earlier` is what it was in an earlier life.
    pub fn inflict(&self, dir: &Path, earlier: &Path) {
        let file = dir.join(&self.file);
        let mut bytes = std::fs::read(&file).unwrap();
        let byte_at = |offset: f64| (bytes.len() as f64 * offset) as usize;
        let block_at = |offset: f64, block: usize| {
            let start = byte_at(offset) / block * block;
            start..(start + block).min(bytes.len())
        };
        match &self.kind {
            Kind::Flipped { offsets } => {
                let length = bytes.len();
                for offset in offsets.iter().take_while(|_| length > 0) {
                    let bit = (offset * 8e6) as u64 % 8;
                    bytes[(length as f64 * offset) as usize] ^= 1 << bit;
                }
            }
            Kind::Zeroed { offset, block } => {
                let range = block_at(*offset, *block);
                bytes[range].fill(0);
            }
            Kind::Truncated { offset } => bytes.truncate(byte_at(*offset)),
            Kind::Missing => return std::fs::remove_file(&file).unwrap(),
            Kind::Emptied => bytes.clear(),
            Kind::Duplicated { from, to, block } => {
                let (from, to) = (block_at(*from, *block), block_at(*to, *block));
                let copied = bytes[from].to_vec();
                let length = copied.len().min(to.len());
                bytes[to.start..to.start + length].copy_from_slice(&copied[..length]);
            }
            Kind::FromAnEarlierLife => match std::fs::read(earlier.join(&self.file)) {
                Ok(old) => bytes = old,
                // It was not there then.
                Err(_) => return std::fs::remove_file(&file).unwrap(),
            },
        }
        std::fs::write(&file, bytes).unwrap();
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.file.display(), self.kind)
    }
}

/// Every file under a directory, by its path in it, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(entry.path()),
                false => files.push(entry.path().strip_prefix(dir).unwrap().to_owned()),
            }
        }
    }
    files.sort();
    files
}
