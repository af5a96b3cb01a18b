//! When what was noticed is told: bursts are told once.

use std::time::{Duration, Instant};

/// Something to tell, and when.
#[derive(Debug)]
pub(super) struct Pace<T> {
    waiting: Option<(Instant, T)>,
    /// From the first of a burst until it is told.
    delay: Duration,
    /// Between two times of telling, at least.
    spacing: Duration,
    told: Option<Instant>,
}

impl<T> Pace<T> {
    pub(super) const fn new(delay: Duration, spacing: Duration) -> Self {
        Pace { waiting: None, delay, spacing, told: None }
    }

    /// Something new; `merge` adds it to what waits.
    pub(super) fn add(&mut self, now: Instant, value: T, merge: impl FnOnce(&mut T, T)) {
        match &mut self.waiting {
            Some((_, waiting)) => merge(waiting, value),
            None => {
                let earliest = self.told.map_or(now, |told| told + self.spacing);
                self.waiting = Some((earliest.max(now + self.delay), value));
            }
        }
    }

    /// When something is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|(due, _)| *due)
    }

    /// What is to be told now.
    pub(super) fn take(&mut self, now: Instant) -> Option<T> {
        let (_, value) = self.waiting.take_if(|(due, _)| *due <= now)?;
        self.told = Some(now);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn the_first_is_told_at_once_and_a_burst_in_steps() {
        let mut pace = Pace::new(ms(0), ms(20));
        let start = Instant::now();
        let mut told = Vec::new();
        for millisecond in 0..100 {
            let now = start + ms(millisecond);
            if (30..80).contains(&millisecond) {
                pace.add(now, 1, |sum, one| *sum += one);
            }
            told.extend(pace.take(now).map(|sum| (millisecond, sum)));
        }
        assert_eq!(told, [(30, 1), (50, 20), (70, 20), (90, 9)]);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn a_delay_gathers_what_follows_the_first() {
        let mut pace = Pace::new(ms(50), ms(0));
        let start = Instant::now();
        pace.add(start, 1, |sum, one| *sum += one);
        pace.add(start + ms(49), 1, |sum, one| *sum += one);
        assert_eq!(pace.take(start + ms(49)), None);
        assert_eq!(pace.due(), Some(start + ms(50)));
        assert_eq!(pace.take(start + ms(50)), Some(2));
        assert_eq!(pace.take(start + ms(51)), None);
    }
}
