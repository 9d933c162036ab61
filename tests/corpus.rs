//! The corpora of `fuzz/`, through what its targets run: each file by itself, and changed at random.
//!
//! Each is changed 200 times, or as often as `TALLYMESH_ROUNDS` says.

use std::path::Path;

use rand::RngExt;
use tallymesh_test_support::{fuzz, seed};

/// Reads bytes, and says whether they are right.
type Target = fn(&[u8]) -> bool;

const TARGETS: [(&str, Target); 2] = [("frame", fuzz::frame), ("config", fuzz::config)];

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn each_file_is_read_or_refused_as_its_name_says() {
    for (target, run) in TARGETS {
        let corpus = corpus(target);
        assert!(corpus.len() > 5, "{target}");
        for (name, bytes) in corpus {
            assert_eq!(run(&bytes), name.starts_with("ok-"), "{target}: {name}");
        }
    }
}

#[test]
fn changed_at_random_none_panics() {
    let (_, mut random) = seed::generator();
    let rounds = seed::number("TALLYMESH_ROUNDS").unwrap_or(200);
    let (mut runs, mut read) = (0_u64, 0_u64);
    for (target, run) in TARGETS {
        let corpus = corpus(target);
        for _ in 0..rounds {
            for (_, bytes) in &corpus {
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
                            let (_, other) = &corpus[random.random_range(0..corpus.len())];
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
    }
    println!("{runs} inputs, of which {read} were read");
}
