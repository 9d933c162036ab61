//! Progress of a slow start, so that it does not look like one that hangs.

use std::time::Duration;

/// How often there is word.
const EVERY: Duration = Duration::from_secs(1);
/// The clock is looked at once for so many counters, since that takes about as long as reading one.
const LOOK_EVERY: u64 = 1024;

/// Counts what is read, and says now and then how much that is.
pub(crate) struct ReadProgress<C> {
    /// Time since some moment.
    clock: C,
    began: Duration,
    next_word: Duration,
    read: u64,
}

impl<C: Fn() -> Duration> ReadProgress<C> {
    pub(crate) fn begin(clock: C) -> ReadProgress<C> {
        let began = clock();
        ReadProgress { clock, began, next_word: began + EVERY, read: 0 }
    }

    /// Counts one more; how many that makes and how long they took, when a word about that is due.
    pub(crate) fn one_more(&mut self) -> Option<(u64, Duration)> {
        self.read += 1;
        if !self.read.is_multiple_of(LOOK_EVERY) {
            return None;
        }
        let now = (self.clock)();
        if now < self.next_word {
            return None;
        }
        self.next_word = now + EVERY;
        Some((self.read, now.saturating_sub(self.began)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn there_is_word_about_every_second_and_none_of_a_quick_reading() {
        let now = Cell::new(Duration::from_secs(5));
        let mut progress = ReadProgress::begin(|| now.get());
        let mut words = Vec::new();
        // 10,240 counters in 2.56 seconds.
        for _ in 0..10 * LOOK_EVERY {
            now.set(now.get() + Duration::from_micros(250));
            words.extend(progress.one_more());
        }
        let read: Vec<u64> = words.iter().map(|(read, _)| *read).collect();
        assert_eq!(read, [4 * LOOK_EVERY, 8 * LOOK_EVERY]);
        assert_eq!(words[0].1, Duration::from_micros(250 * 4 * LOOK_EVERY));

        let mut quick = ReadProgress::begin(|| now.get());
        assert!((0..100 * LOOK_EVERY).all(|_| quick.one_more().is_none()));
    }
}
