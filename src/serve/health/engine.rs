//! Health of a family as the engine sees it.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::FamilyHealth;
use crate::engine::{Handle, Moment, Status};
use crate::net::{Family, PerFamily};

/// How the families are that an engine serves; others are never told of.
pub fn of_engine(engine: Handle, families: &[Family]) -> impl Fn(Family) -> FamilyHealth + Send + Sync + 'static {
    let is_served = PerFamily::new(|family| families.contains(&family));
    let stamps = Mutex::new(PerFamily::<Stamp>::default());
    move |family| {
        if !*is_served.get(family) {
            return FamilyHealth::default();
        }
        let now = engine.clock().now();
        let OfStatus { told, updated } = of_status(&engine.status(), family, now);
        let mut stamps = stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let last_updated = updated.map(|at| stamps.get_mut(family).time_of(at, now));
        FamilyHealth { last_updated, ..told }
    }
}

/// The last moment that was asked for, with the time of day that it had then: the same answer every time, whatever happens to
/// the system's clock.
#[derive(Clone, Copy, Default)]
struct Stamp(Option<(Moment, SystemTime)>);

impl Stamp {
    fn time_of(&mut self, at: Moment, now: Moment) -> SystemTime {
        if let Some((_, time)) = self.0.filter(|(known, _)| *known == at) {
            return time;
        }
        let today = SystemTime::now();
        let time = today.checked_sub(now.saturating_sub(at)).unwrap_or(today);
        self.0 = Some((at, time));
        time
    }
}

struct OfStatus {
    /// Without a time.
    told: FamilyHealth,
    updated: Option<Moment>,
}

/// A family is not told of until the source has told everything: nothing is owed before. Then its last update is the last
/// moment at which the kernel held all that was wanted of it, as far as anyone knew.
fn of_status(status: &Status, family: Family, now: Moment) -> OfStatus {
    let reason = status.health(family, now).err().map(|unhealthy| format!("{family}: {unhealthy}"));
    let told = FamilyHealth { healthy: reason.is_none(), last_updated: None, reason };
    let updated = status.synced.map(|synced| {
        let success = status.last_success.map_or(synced, |success| success.max(synced));
        let owed = [status.families.get(family).oldest_unapplied, status.unsure_since];
        owed.into_iter().flatten().fold(success, Moment::min)
    });
    OfStatus { told, updated }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    fn status() -> Status {
        Status { late_after: s(60), blind_after: s(120), ..Status::default() }
    }

    /// When it was last updated, and whether it is healthy.
    fn seen(status: &Status, family: Family, now: Moment) -> (Option<Moment>, bool) {
        let seen = of_status(status, family, now);
        assert_eq!(seen.told.healthy, seen.told.reason.is_none());
        (seen.updated, seen.told.healthy)
    }

    #[test]
    fn a_moment_has_one_time_of_day() {
        let mut stamp = Stamp::default();
        let began = SystemTime::now();
        let first = stamp.time_of(s(5), s(15));
        let ago = began.duration_since(first).unwrap();
        assert!(ago <= s(10) && ago > s(9), "{ago:?}");
        assert_eq!(stamp.time_of(s(5), s(16)), first);
        assert!(stamp.time_of(s(17), s(17)) > first);
    }

    #[test]
    fn s16_before_all_is_known() {
        assert_eq!(seen(&status(), Family::V4, s(1000)), (None, true));
    }

    #[test]
    fn s17_to_s22_the_oldest_change_counts() {
        let mut status = Status { synced: Some(s(10)), last_observed: Some(s(11)), ..status() };
        assert_eq!(seen(&status, Family::V4, s(11)), (Some(s(10)), true), "the first change is on its way");
        status.last_success = Some(s(11));
        assert_eq!(seen(&status, Family::V4, s(100)), (Some(s(11)), true), "S17");
        status.last_observed = Some(s(100));
        status.families.v6.oldest_unapplied = Some(s(100));
        assert_eq!(seen(&status, Family::V6, s(159)), (Some(s(11)), true), "S18, S22");
        // IPv4 is updated meanwhile.
        status.last_success = Some(s(155));
        assert_eq!(seen(&status, Family::V6, s(160)), (Some(s(100)), false), "S19, at the limit");
        assert_eq!(seen(&status, Family::V4, s(160)), (Some(s(155)), true), "S19");
        assert!(of_status(&status, Family::V6, s(160)).told.reason.is_some_and(|reason| reason.starts_with("IPv6: a")));
        status.families.v6.oldest_unapplied = None;
        status.last_success = Some(s(161));
        assert_eq!(seen(&status, Family::V6, s(161)), (Some(s(161)), true), "S20");
        status.families.v4.oldest_unapplied = Some(s(165));
        assert_eq!(seen(&status, Family::V4, s(225)), (Some(s(161)), false), "S21");
        assert_eq!(seen(&status, Family::V6, s(225)), (Some(s(161)), false), "S21: and nobody has read the kernel");
    }
}
