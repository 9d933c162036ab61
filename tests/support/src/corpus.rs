//! The corpora of `fuzz/`, through what its targets run: each file by itself, and changed at random.

use std::path::Path;

use rand::RngExt;

use crate::seed;

/// The inputs that a target of `fuzz/` begins with.
pub struct TargetCorpus {
    target: &'static str,
    /// By name, which begins with `ok-` if the target says that it is right.
    files: Vec<(String, Vec<u8>)>,
}

/// How often each file is changed: this often, or as often as `TALLYMESH_ROUNDS` says.
pub fn rounds(default: u64) -> u64 {
    seed::number("TALLYMESH_ROUNDS").unwrap_or(default)
}

impl TargetCorpus {
    /// The corpus of this target.
    ///
    /// # Panics
    /// If it cannot be read, or there is little in it.
    pub fn of(target: &'static str) -> TargetCorpus {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read(path).unwrap())
            })
            .collect();
        files.sort();
        assert!(files.len() > 5, "{target}");
        TargetCorpus { target, files }
    }

    /// Runs each file.
    ///
    /// # Panics
    /// If one is taken for right or wrong against its name.
    pub fn each_is_read_or_refused_as_its_name_says(&self, run: fn(&[u8]) -> bool) {
        for (name, bytes) in &self.files {
            assert_eq!(run(bytes), name.starts_with("ok-"), "{}: {name}", self.target);
        }
    }

    /// Runs each file so often, each time with a few changes.
    pub fn change_at_random(&self, rounds: u64, run: fn(&[u8]) -> bool) {
        let (_, mut random) = seed::generator();
        let (mut runs, mut read) = (0_u64, 0_u64);
        for _ in 0..rounds {
            for (_, bytes) in &self.files {
                let mut bytes = bytes.clone();
                for _ in 0..random.random_range(1..6) {
                    let place = random.random_range(0..=bytes.len());
                    match random.random_range(0..5) {
                        0 => bytes.truncate(place),
                        1 => bytes.insert(place, random.random()),
                        2 if place < bytes.len() => bytes[place] = random.random(),
                        3 if place < bytes.len() => bytes[place] ^= 1 << random.random_range(0..8),
                        // A piece of another one.
                        _ => {
                            let (_, other) = &self.files[random.random_range(0..self.files.len())];
                            let from = random.random_range(0..=other.len());
                            let piece = other[from..other.len().min(from + 64)].to_vec();
                            bytes.splice(place..place, piece);
                        }
                    }
                }
                runs += 1;
                read += u64::from(run(&bytes));
            }
        }
        println!("{}: {runs} inputs, of which {read} were read", self.target);
    }
}
