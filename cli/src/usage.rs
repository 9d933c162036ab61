//! How much of a limit is used.

/// How many per cent of a maximum are used, to a tenth. Of a maximum of 0, all is used from the start.
pub fn percent(used: u64, max: u64) -> f64 {
    let share = if max == 0 { used.max(1) as f64 } else { used as f64 / max as f64 };
    (share * 1000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cent_are_of_the_maximum() {
        for (used, max, expected) in [
            (0, 10, 0.0),
            (1, 3, 33.3),
            (10, 10, 100.0),
            (11, 10, 110.0),
            (0, 0, 100.0),
            (2, 0, 200.0),
        ] {
            assert_eq!(percent(used, max), expected, "{used} of {max}");
        }
    }
}
