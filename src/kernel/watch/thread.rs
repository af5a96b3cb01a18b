//! The thread: waits for sockets and times, and tells.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::addresses::AddressWatch;
use super::legacy::LegacyWatch;
use super::nft::NftWatch;
use super::pace::Pace;
use super::signal::Sleep;
use super::{OnAddresses, OnDrift};
use crate::kernel::xtables::Suspicion;

/// Legacy tables are looked at this often: a change is told within 100 ms with some to spare.
const LEGACY_PERIOD: Duration = Duration::from_millis(75);

/// The generation id of nf_tables is looked at this often. The kernel tells at once, and tells if it could not tell, so
/// this finds only what should not happen.
const GENERATION_PERIOD: Duration = Duration::from_secs(1);

/// Suspicions are told at most this often. A lone one is told at the end of its commit.
const DRIFT_SPACING: Duration = Duration::from_millis(20);

/// Addresses come in groups: an address of each family, its routes, the state of its link.
const ADDRESS_DELAY: Duration = Duration::from_millis(50);

/// How the rules are watched.
pub(super) enum Rules {
    Nft(Box<NftWatch>),
    Legacy(LegacyWatch),
}

pub(super) struct Thread {
    sleep: Sleep,
    rules: Option<Rules>,
    addresses: Option<AddressWatch>,
    on_drift: OnDrift,
    on_addresses: OnAddresses,
    drift: Pace<Suspicion>,
    address_change: Pace<()>,
    /// When the rules are looked at the next time, though nothing was told.
    next_look: Instant,
}

impl Thread {
    pub(super) fn new(
        sleep: Sleep,
        rules: Option<Rules>,
        addresses: Option<AddressWatch>,
        on_drift: OnDrift,
        on_addresses: OnAddresses,
    ) -> Self {
        Thread {
            sleep,
            rules,
            addresses,
            on_drift,
            on_addresses,
            drift: Pace::new(Duration::ZERO, DRIFT_SPACING),
            address_change: Pace::new(ADDRESS_DELAY, Duration::ZERO),
            next_look: Instant::now(),
        }
    }

    /// Works until it is stopped.
    pub(super) fn run(&mut self) {
        while !self.sleep.is_stopped() {
            self.wait();
            self.look_at_rules();
            self.look_at_addresses();
            self.tell();
        }
    }

    /// Until a socket has something, somebody wakes, or it is time.
    fn wait(&mut self) {
        let next_look = self.rules.as_ref().map(|_| self.next_look);
        let times = [next_look, self.drift.due(), self.address_change.due()];
        let timeout = times.into_iter().flatten().min().map_or(PollTimeout::NONE, until);
        let mut fds = vec![PollFd::new(self.sleep.as_fd(), PollFlags::POLLIN)];
        if let Some(Rules::Nft(nft)) = &self.rules {
            fds.push(PollFd::new(nft.as_fd(), PollFlags::POLLIN));
        }
        fds.extend(self.addresses.as_ref().map(|addresses| PollFd::new(addresses.as_fd(), PollFlags::POLLIN)));
        let polled = poll(&mut fds, timeout);
        let woken = fds.first().and_then(PollFd::any).unwrap_or(false);
        if woken {
            self.sleep.reset();
        } else if polled.is_err_and(|errno| errno != Errno::EINTR) {
            // The kernel has no memory for it: better late than busy.
            std::thread::sleep(LEGACY_PERIOD);
        }
    }

    fn look_at_rules(&mut self) {
        let Some(rules) = &mut self.rules else { return };
        let now = Instant::now();
        let is_due = now >= self.next_look;
        let found = match rules {
            Rules::Nft(nft) => {
                if is_due {
                    self.next_look = now + GENERATION_PERIOD;
                }
                let found = if is_due { nft.glance() } else { nft.look() };
                found.map_err(|error| error.to_string())
            }
            Rules::Legacy(_) if !is_due => return,
            Rules::Legacy(legacy) => {
                self.next_look = now + LEGACY_PERIOD;
                let found = legacy.look().map(|changed| changed.then(Suspicion::anything));
                found.map_err(|errno| format!("cannot ask for the size of a legacy table: {errno}"))
            }
        };
        match found {
            Ok(found) => {
                if let Some(suspicion) = found {
                    self.drift.add(now, suspicion, Suspicion::merge);
                }
            }
            Err(error) => {
                self.rules = None;
                super::warn_rules(&error);
                self.drift.add(now, Suspicion::anything(), Suspicion::merge);
            }
        }
    }

    fn look_at_addresses(&mut self) {
        let Some(addresses) = &mut self.addresses else { return };
        match addresses.look() {
            Ok(false) => {}
            Ok(true) => self.address_change.add(Instant::now(), (), |(), ()| ()),
            Err(error) => {
                self.addresses = None;
                super::warn_addresses(&error.to_string());
                self.address_change.add(Instant::now(), (), |(), ()| ());
            }
        }
    }

    fn tell(&mut self) {
        let now = Instant::now();
        if let Some(suspicion) = self.drift.take(now) {
            (self.on_drift)(suspicion);
        }
        if self.address_change.take(now).is_some() {
            (self.on_addresses)();
        }
    }
}

/// Milliseconds until then, rounded up: waking too early would be waking twice.
fn until(time: Instant) -> PollTimeout {
    let left = time.saturating_duration_since(Instant::now());
    let milliseconds = left.as_micros().div_ceil(1000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}
