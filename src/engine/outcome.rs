//! What follows from the outcome of a kernel action.

use std::time::Duration;

use super::backend::{Repair, RepairError};
use super::event::{Action, ApplyFailure};
use super::machine::{Batch, Engine, Flight, recovered};
use super::notice::Notice;
use super::pacing::Moment;
use super::quarantine::Entry;
use super::upkeep::{Cause, Compare, Purpose, is_drift};
use crate::kernel::xtables::{ApplyErrorKind, Suspicion};
use crate::model::ServicePortKey;
use crate::net::PerFamily;
use crate::plan::Move;

impl Engine {
    pub(super) fn apply_done(&mut self, result: Result<(), ApplyFailure>, now: Moment, actions: &mut Vec<Action>) {
        let (batch, keys, moves, began) = match self.flight.take() {
            Some(Flight::Apply { batch, keys, moves, began }) => (batch, keys, moves, began),
            other => {
                self.flight = other;
                return;
            }
        };
        self.ended = Some(now);
        let took = now.saturating_sub(began);
        self.rest.worked(took);
        match result {
            Ok(()) => {
                self.last_apply = Some(took);
                self.applied(batch, moves, now, actions);
            }
            Err(failure) => {
                self.counters.apply_failures.count(failure.error.kind);
                if !moves.is_empty() {
                    self.upkeep.ask_tidy(now);
                }
                match failure.error.kind {
                    ApplyErrorKind::Busy | ApplyErrorKind::Unavailable => {
                        self.apply_later(batch, keys, failure, now, actions);
                    }
                    ApplyErrorKind::Refused => self.apply_refused(batch, keys, failure, now, actions),
                }
            }
        }
    }

    fn applied(&mut self, batch: Batch, moves: Vec<Move>, now: Moment, actions: &mut Vec<Action>) {
        self.counters.applies += 1;
        self.counters.fragments += moves.len() as u64;
        self.last_success = Some(now);
        self.base_proved = true;
        self.probe = false;
        self.continuing = matches!(batch, Batch::Suspects | Batch::Probe);
        self.kernel_works(actions);
        let released = self.ledger.accept(now, &mut self.counters.waits);
        tell_released(released, now, actions);
        if !moves.is_empty() {
            actions.push(Action::Applied(moves));
        }
    }

    fn reject(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let released = self.ledger.reject(now);
        tell_released(released, now, actions);
    }

    /// The kernel said yes to something, or no to one fragment: it answers.
    fn kernel_works(&mut self, actions: &mut Vec<Action>) {
        let failures = self.retry.succeed();
        let told = self.trouble.take().is_some() | std::mem::take(&mut self.base_trouble);
        if told {
            actions.push(Action::Notice(Notice::ApplyWorks { failures }));
        }
    }

    /// Nothing is wrong with the batch: the same again later.
    fn apply_later(
        &mut self,
        batch: Batch,
        keys: Vec<ServicePortKey>,
        failure: ApplyFailure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.reject(now, actions);
        if batch == Batch::Suspects {
            self.suspects.put_back(keys);
        }
        self.continuing = false;
        let retry_in = self.retry.fail(now);
        self.counters.retries += 1;
        let kind = failure.error.kind;
        if self.trouble.replace(kind) != Some(kind) {
            let message = failure.error.message;
            actions.push(Action::Notice(Notice::ApplyFailed { kind, message, retry_in }));
        }
    }

    /// Something in the batch is at fault: split it, or, if it is a single fragment, put that into quarantine. It is
    /// blamed only when the base is known to be accepted.
    fn apply_refused(
        &mut self,
        batch: Batch,
        keys: Vec<ServicePortKey>,
        failure: ApplyFailure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let reason = failure.error.message;
        self.continuing = true;
        match keys.as_slice() {
            [] => self.base_refused(reason, now, actions),
            [_] if self.base_proved => {
                self.continuing = batch != Batch::Quarantined;
                self.faults += 1;
                self.kernel_works(actions);
                if let Some(key) = self.ledger.refuse(reason.clone(), now) {
                    self.counters.quarantines += 1;
                    let kept = self.ledger.applied().contains(&key);
                    actions.push(Action::Notice(Notice::Quarantined { key, reason, kept }));
                }
            }
            [_] => {
                self.reject(now, actions);
                self.suspects.put_back(keys);
                self.probe = true;
            }
            _ => {
                self.reject(now, actions);
                if batch == Batch::Fresh && self.suspects.is_empty() {
                    actions.push(Action::Notice(Notice::Bisecting { fragments: keys.len(), reason }));
                }
                self.suspects.split(keys, failure.suspect.as_ref());
            }
        }
    }

    fn base_refused(&mut self, message: String, now: Moment, actions: &mut Vec<Action>) {
        self.continuing = false;
        let retry_in = self.retry.fail(now);
        self.counters.retries += 1;
        if !std::mem::replace(&mut self.base_trouble, true) {
            actions.push(Action::Notice(Notice::BaseRefused { message, retry_in }));
        }
    }

    pub(super) fn repair_done(&mut self, result: Result<Repair, RepairError>, now: Moment, actions: &mut Vec<Action>) {
        let (compare, first, began) = match self.flight.take() {
            Some(Flight::Repair { compare, first, began }) => (compare, first, began),
            other => {
                self.flight = other;
                return;
            }
        };
        self.upkeep.took(&compare, now.saturating_sub(began), now);
        if !compare.is_partial() {
            self.ended = Some(now);
        }
        match result {
            Ok(repair) if compare.is_partial() => self.partly_compared(&compare, repair, now, actions),
            Ok(repair) => self.fully_compared(&compare, first, repair, now, actions),
            Err(error) => self.repair_failed(compare, &error, now, actions),
        }
    }

    /// What someone was seen to change is right again. This says nothing of the rest of the kernel.
    fn partly_compared(&mut self, compare: &Compare, repair: Repair, now: Moment, actions: &mut Vec<Action>) {
        self.counters.partial_repairs += 1;
        self.last_success = Some(now);
        let failures = self.upkeep.partial_succeeded();
        if failures > 0 {
            self.tell_repair_works(failures, actions);
        }
        self.tell_differences(compare, repair, now, actions);
    }

    fn fully_compared(
        &mut self,
        compare: &Compare,
        first: bool,
        repair: Repair,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.counters.repairs += 1;
        self.last_observed = Some(now);
        if compare.purpose == Purpose::Look {
            self.looked(repair, now, actions);
            return;
        }
        self.compared(compare.purpose, now, actions);
        if compare.causes.contains(&Cause::Rebuilt) && compare.purpose == Purpose::Repair {
            actions.push(Action::Notice(Notice::Rebuilt { fragments: self.ledger.applied().len() }));
        }
        if first {
            self.first_compare(repair, now, actions);
        } else {
            self.tell_differences(compare, repair, now, actions);
        }
    }

    fn compared(&mut self, purpose: Purpose, now: Moment, actions: &mut Vec<Action>) {
        self.last_success = Some(now);
        let failures = self.upkeep.succeeded(now);
        self.tell_repair_works(failures, actions);
        if purpose == Purpose::Repair {
            self.base_proved = true;
            self.drift.seen = None;
            self.kernel_works(actions);
        }
    }

    fn tell_repair_works(&mut self, failures: u32, actions: &mut Vec<Action>) {
        if self.repair_trouble.take().is_some() {
            actions.push(Action::Notice(Notice::RepairWorks { failures }));
        }
    }

    fn first_compare(&mut self, repair: Repair, now: Moment, actions: &mut Vec<Action>) {
        self.started = true;
        // What was there before we were: how long it waited says nothing.
        let released = self.ledger.accept(now, &mut PerFamily::default());
        tell_released(released, now, actions);
        let fragments = self.ledger.applied().iter();
        let moves: Vec<_> = fragments.map(|after| Move { before: None, after: Some(after.clone()) }).collect();
        actions.push(Action::Notice(Notice::Started { fragments: moves.len(), repair }));
        if !moves.is_empty() {
            actions.push(Action::Applied(moves));
        }
    }

    /// Writing the difference is refused, and the difference may still be the same. If not, it is tried again.
    fn looked(&mut self, repair: Repair, now: Moment, actions: &mut Vec<Action>) {
        let failures = self.upkeep.looked(now);
        if self.repair_trouble == Some(None) {
            self.repair_trouble = Some(Some(ApplyErrorKind::Refused));
            actions.push(Action::Notice(Notice::RepairWorks { failures }));
        }
        if self.drift.seen.as_ref().is_some_and(|seen| *seen != repair) {
            self.upkeep.suspect(Suspicion::anything(), now);
        }
        self.drift.seen = Some(repair);
    }

    /// Differences are drift if nothing of ours can have caused them.
    fn tell_differences(&mut self, compare: &Compare, repair: Repair, now: Moment, actions: &mut Vec<Action>) {
        let Some(cause) = compare.causes.first().copied().filter(|_| repair.total() > 0) else { return };
        if !compare.causes.iter().all(|cause| is_drift(*cause)) {
            actions.push(Action::Notice(Notice::Repaired { cause, repair }));
            return;
        }
        let repaired = compare.purpose == Purpose::Repair;
        for (kind, count) in &repair.differences {
            *self.counters.drift.entry(*kind).or_default() += count;
            if repaired {
                *self.counters.drift_repaired.entry(*kind).or_default() += count;
            }
        }
        if self.drift.tell(&repair.lines, now) {
            actions.push(Action::Notice(Notice::Drift { cause, by: compare.by(), repaired, repair }));
        }
    }

    fn repair_failed(&mut self, compare: Compare, error: &RepairError, now: Moment, actions: &mut Vec<Action>) {
        self.reject(now, actions);
        let kind = error.kind();
        match kind {
            None => self.counters.observe_failures += 1,
            Some(kind) => {
                self.counters.repair_failures.count(kind);
                if !compare.is_partial() {
                    self.last_observed = Some(now);
                }
            }
        }
        if kind == Some(ApplyErrorKind::Refused) && compare.is_partial() {
            self.upkeep.partial_refused(compare);
            return;
        }
        if kind == Some(ApplyErrorKind::Refused) && compare.purpose == Purpose::Repair {
            match self.upkeep.refused(&compare.causes, now) {
                Some(since) => self.rebuild(error.to_string(), since, actions),
                None => self.tell_repair_failed(kind, error.to_string(), self.upkeep.wait(now), actions),
            }
            return;
        }
        if kind.is_some() && !compare.is_partial() {
            self.upkeep.unsure(now);
        }
        let retry_in = self.upkeep.failed(compare, now);
        self.counters.retries += 1;
        self.tell_repair_failed(kind, error.to_string(), retry_in, actions);
    }

    fn tell_repair_failed(
        &mut self,
        kind: Option<ApplyErrorKind>,
        message: String,
        retry_in: Duration,
        actions: &mut Vec<Action>,
    ) {
        if self.repair_trouble.replace(kind) != Some(kind) {
            actions.push(Action::Notice(Notice::RepairFailed { kind, message, retry_in }));
        }
    }

    /// A compare was refused: it cannot be told why, and nothing of it may be in force. Everything goes through
    /// applies, which can be split.
    fn rebuild(&mut self, reason: String, since: Moment, actions: &mut Vec<Action>) {
        self.counters.rebuilds += 1;
        self.started = true;
        self.rebuilding = true;
        self.continuing = true;
        self.forget = true;
        self.base_proved = false;
        self.suspects.clear();
        self.drift.seen = None;
        let keys = self.ledger.forget(since);
        let fragments = keys.len();
        self.suspects.put_back(keys);
        // The base is owed too, also where there is no fragment.
        self.probe = fragments == 0;
        // Once per spell of refusals, not once per attempt.
        if self.repair_trouble != Some(Some(ApplyErrorKind::Refused)) {
            actions.push(Action::Notice(Notice::Rebuilding { fragments, reason }));
        }
    }
}

fn tell_released(released: Vec<(ServicePortKey, Entry)>, now: Moment, actions: &mut Vec<Action>) {
    actions.extend(released.into_iter().map(|(key, entry)| recovered(key, &entry, now)));
}
