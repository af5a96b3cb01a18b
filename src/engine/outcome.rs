//! What follows from the outcome of a kernel action.

use std::collections::BTreeSet;
use std::time::Duration;

use super::backend::{Repair, RepairError};
use super::event::{Action, ApplyFailure};
use super::machine::{Batch, Engine, Flight, recovered};
use super::notice::Notice;
use super::pacing::Moment;
use super::upkeep::{Cause, Purpose, is_drift};
use crate::kernel::xtables::ApplyErrorKind;
use crate::model::ServicePortKey;
use crate::plan::Move;

/// The same drift is told again after this long.
const SAME_DRIFT: Duration = Duration::from_secs(600);

/// Remembers which differences were told or seen.
#[derive(Debug, Default)]
pub(super) struct DriftNotices {
    told: Option<(Moment, Vec<String>)>,
    /// While writing a difference is refused: what it was.
    seen: Option<Repair>,
}

impl DriftNotices {
    /// Whether this is news.
    fn tell(&mut self, lines: &[String], now: Moment) -> bool {
        if let Some((at, told)) = &self.told
            && told == lines
            && now.saturating_sub(*at) < SAME_DRIFT
        {
            return false;
        }
        self.told = Some((now, lines.to_vec()));
        true
    }
}

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
        match result {
            Ok(()) => {
                self.last_apply = Some(now.saturating_sub(began));
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
        self.accept(now, actions);
        if !moves.is_empty() {
            actions.push(Action::Applied(moves));
        }
    }

    fn accept(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let released = self.ledger.accept(now);
        actions.extend(released.into_iter().map(|(key, entry)| recovered(key, &entry, now)));
    }

    fn reject(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let released = self.ledger.reject(now);
        actions.extend(released.into_iter().map(|(key, entry)| recovered(key, &entry, now)));
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
                    let kept = self.ledger.applied().contains_key(&key);
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
        if !std::mem::replace(&mut self.base_trouble, true) {
            actions.push(Action::Notice(Notice::BaseRefused { message, retry_in }));
        }
    }

    pub(super) fn repair_done(&mut self, result: Result<Repair, RepairError>, now: Moment, actions: &mut Vec<Action>) {
        let (causes, purpose, first) = match self.flight.take() {
            Some(Flight::Repair { causes, purpose, first }) => (causes, purpose, first),
            other => {
                self.flight = other;
                return;
            }
        };
        self.ended = Some(now);
        match result {
            Ok(repair) => {
                self.counters.repairs += 1;
                self.last_observed = Some(now);
                if purpose == Purpose::Look {
                    self.looked(repair, now, actions);
                    return;
                }
                self.compared(purpose, now, actions);
                if causes.contains(&Cause::Rebuilt) && purpose == Purpose::Repair {
                    actions.push(Action::Notice(Notice::Rebuilt { fragments: self.ledger.applied().len() }));
                }
                if first {
                    self.first_compare(repair, now, actions);
                } else {
                    self.tell_differences(&causes, purpose, repair, now, actions);
                }
            }
            Err(error) => self.repair_failed(causes, purpose, &error, now, actions),
        }
    }

    fn compared(&mut self, purpose: Purpose, now: Moment, actions: &mut Vec<Action>) {
        self.last_success = Some(now);
        let failures = self.upkeep.succeeded(now);
        if self.repair_trouble.take().is_some() {
            actions.push(Action::Notice(Notice::RepairWorks { failures }));
        }
        if purpose == Purpose::Repair {
            self.base_proved = true;
            self.drift.seen = None;
            self.kernel_works(actions);
        }
    }

    fn first_compare(&mut self, repair: Repair, now: Moment, actions: &mut Vec<Action>) {
        self.started = true;
        self.accept(now, actions);
        let fragments = self.ledger.applied().values();
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
            self.upkeep.ask(Cause::Suspected);
        }
        self.drift.seen = Some(repair);
    }

    /// Differences are drift if nothing of ours can have caused them.
    fn tell_differences(
        &mut self,
        causes: &BTreeSet<Cause>,
        purpose: Purpose,
        repair: Repair,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(cause) = causes.first().copied().filter(|_| repair.total() > 0) else { return };
        if !causes.iter().all(|cause| is_drift(*cause)) {
            actions.push(Action::Notice(Notice::Repaired { cause, repair }));
            return;
        }
        for (kind, count) in &repair.differences {
            *self.counters.drift.entry(*kind).or_default() += count;
        }
        if self.drift.tell(&repair.lines, now) {
            let repaired = purpose == Purpose::Repair;
            actions.push(Action::Notice(Notice::Drift { cause, repaired, repair }));
        }
    }

    fn repair_failed(
        &mut self,
        causes: BTreeSet<Cause>,
        purpose: Purpose,
        error: &RepairError,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.reject(now, actions);
        let kind = error.kind();
        match kind {
            None => self.counters.observe_failures += 1,
            Some(kind) => {
                self.counters.repair_failures.count(kind);
                self.last_observed = Some(now);
            }
        }
        if kind == Some(ApplyErrorKind::Refused) && purpose == Purpose::Repair {
            match self.upkeep.refused(&causes, now) {
                Some(since) => self.rebuild(error.to_string(), since, actions),
                None => self.tell_repair_failed(kind, error.to_string(), self.upkeep.wait(now), actions),
            }
            return;
        }
        if kind.is_some() {
            self.upkeep.unsure(now);
        }
        let retry_in = self.upkeep.failed(causes, now);
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
