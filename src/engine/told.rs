//! Which differences were told already.

use std::collections::HashMap;
use std::time::Duration;

use super::backend::Repair;
use super::pacing::Moment;

/// The same drift is told again after this long.
const AGAIN: Duration = Duration::from_secs(600);

/// So many differences are remembered.
const MOST: usize = 1_000;

/// Remembers which differences were told or seen.
#[derive(Debug, Default)]
pub(super) struct DriftNotices {
    told: HashMap<String, Moment>,
    /// While writing a difference is refused: what it was.
    pub(super) seen: Option<Repair>,
}

impl DriftNotices {
    /// Whether any of this is news: whoever fights over several rules in turn is told of once for each.
    pub(super) fn tell(&mut self, lines: &[String], now: Moment) -> bool {
        self.told.retain(|_, at| now.saturating_sub(*at) < AGAIN);
        if lines.iter().all(|line| self.told.contains_key(line)) {
            return false;
        }
        if self.told.len() >= MOST {
            self.told.clear();
        }
        self.told.extend(lines.iter().map(|line| (line.clone(), now)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn each_difference_is_told_once_and_again_much_later() {
        let mut notices = DriftNotices::default();
        let s = Duration::from_secs;
        assert!(notices.tell(&lines("a b"), s(1)));
        assert!(!notices.tell(&lines("b"), s(2)));
        assert!(notices.tell(&lines("c"), s(3)));
        for at in 4..600 {
            assert!(!notices.tell(&lines(if at % 2 == 0 { "a" } else { "c" }), s(at)), "in turn");
        }
        assert!(notices.tell(&lines("a"), s(601)));
        for n in 0..5_000 {
            notices.tell(&[n.to_string()], s(602));
        }
        assert!(notices.told.len() <= MOST);
    }
}
