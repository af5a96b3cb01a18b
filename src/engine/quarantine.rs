//! Fragments that the kernel refused by themselves: kept out of every batch, tried again alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pacing::{Backoff, Moment, Pacing};
use crate::model::{ServicePort, ServicePortKey};

/// A quarantined fragment that keeps changing is tried at most this often.
const CHANGED_GAP: Duration = Duration::from_secs(1);

/// Why a fragment is here and when it is tried again.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The value that was refused last; `None`: its removal was.
    pub(super) refused: Option<Arc<ServicePort>>,
    pub(super) reason: String,
    pub(super) since: Moment,
    pub(super) attempts: u32,
    last_try: Moment,
    next_try: Moment,
    backoff: Backoff,
}

/// All quarantined fragments.
#[derive(Debug)]
pub(super) struct Quarantine {
    entries: BTreeMap<ServicePortKey, Entry>,
    backoff: Backoff,
}

impl Quarantine {
    pub(super) fn new(pacing: &Pacing) -> Self {
        let backoff = Backoff::new(pacing.first_quarantine_retry, pacing.max_quarantine_retry);
        Quarantine { entries: BTreeMap::new(), backoff }
    }

    pub(super) fn contains(&self, key: &ServicePortKey) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ServicePortKey, &Entry)> {
        self.entries.iter()
    }

    /// Records a refusal. True if the fragment was not here before.
    pub(super) fn refuse(
        &mut self,
        key: &ServicePortKey,
        value: Option<Arc<ServicePort>>,
        reason: String,
        now: Moment,
    ) -> bool {
        let is_new = !self.contains(key);
        let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
            refused: None,
            reason: String::new(),
            since: now,
            attempts: 0,
            last_try: now,
            next_try: now,
            backoff: self.backoff.clone(),
        });
        entry.refused = value;
        entry.reason = reason;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.last_try = now;
        entry.next_try = now.saturating_add(entry.backoff.fail(now));
        is_new
    }

    /// The wanted value is another one now. A value that was not refused yet is tried soon.
    pub(super) fn changed(&mut self, key: &ServicePortKey, wanted: Option<&Arc<ServicePort>>, now: Moment) {
        if let Some(entry) = self.entries.get_mut(key)
            && entry.refused.as_ref() != wanted
        {
            entry.backoff.succeed();
            entry.next_try = entry.next_try.min(now.max(entry.last_try.saturating_add(CHANGED_GAP)));
        }
    }

    pub(super) fn release(&mut self, key: &ServicePortKey) -> Option<Entry> {
        self.entries.remove(key)
    }

    /// The fragment to try next, and when.
    pub(super) fn next(&self) -> Option<(Moment, &ServicePortKey)> {
        self.entries.iter().map(|(key, entry)| (entry.next_try, key)).min()
    }
}
