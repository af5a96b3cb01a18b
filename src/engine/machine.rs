//! The engine's state, and the choice of the next run.

use std::time::Duration;

use super::backend::Standing;
use super::bisect::Suspects;
use super::event::{Action, Event, Resolved};
use super::fragments::Fragments;
use super::ledger::{Change, Ledger, Progress};
use super::notice::Notice;
use super::pacing::{Backoff, Moment, Pacing, Rest};
use super::quarantine::Entry;
use super::status::{Counters, FamilyStatus, QuarantinedStatus, Status};
use super::told::DriftNotices;
use super::upkeep::{Cause, Compare, Upkeep};
use crate::kernel::xtables::ApplyErrorKind;
use crate::model::ServicePortKey;
use crate::net::PerFamily;
use crate::plan::Move;
use crate::state::FactCounts;

/// Reading the kernel may be overdue for this many periods.
const BLIND_PERIODS: u32 = 4;

/// A run that put so many fragments into quarantine ends, so that others have their turn.
const FAULTS_PER_RUN: u32 = 8;

/// Kinds of runs. When several are ready, they take turns in this order, so that none starves another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A compare of chains that someone was seen to change.
    Partial,
    /// A full compare.
    Repair,
    /// All that is dirty and under no suspicion, in one batch.
    Fresh,
    /// A group of suspects.
    Suspects,
    /// A quarantined fragment.
    Quarantined,
}

impl Turn {
    /// All turns, beginning after this one.
    fn following(self) -> [Turn; 5] {
        use Turn::{Fresh, Partial, Quarantined, Repair, Suspects};
        match self {
            Partial => [Repair, Fresh, Suspects, Quarantined, Partial],
            Repair => [Fresh, Suspects, Quarantined, Partial, Repair],
            Fresh => [Suspects, Quarantined, Partial, Repair, Fresh],
            Suspects => [Quarantined, Partial, Repair, Fresh, Suspects],
            Quarantined => [Partial, Repair, Fresh, Suspects, Quarantined],
        }
    }
}

/// What an apply in flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    Fresh,
    Suspects,
    Quarantined,
    /// The base alone: is it the base that is refused, or a fragment?
    Probe,
}

/// The kernel action in flight.
#[derive(Debug)]
pub(super) enum Flight {
    Apply { batch: Batch, keys: Vec<ServicePortKey>, moves: Vec<Move>, began: Moment },
    Repair { compare: Compare, first: bool, began: Moment },
}

/// The state machine. See the [module](super) for the rules.
#[derive(Debug)]
pub struct Engine {
    pub(super) pacing: Pacing,
    pub(super) synced: Option<Moment>,
    pub(super) stopped: bool,
    /// Fragments may be applied one by one: the first compare is behind us.
    pub(super) started: bool,
    pub(super) ledger: Ledger,
    pub(super) upkeep: Upkeep,
    pub(super) flight: Option<Flight>,
    /// When the last run ended that was no partial compare.
    pub(super) ended: Option<Moment>,
    /// After applies.
    pub(super) rest: Rest,
    turn: Turn,
    /// After failed applies. Not after refusals: those are answered by splitting.
    pub(super) retry: Backoff,
    /// How applying fails at the moment, as told.
    pub(super) trouble: Option<ApplyErrorKind>,
    /// Whether it was told that the base is refused.
    pub(super) base_trouble: bool,
    /// How comparing fails at the moment, as told.
    pub(super) repair_trouble: Option<Option<ApplyErrorKind>>,
    pub(super) drift: DriftNotices,
    pub(super) suspects: Suspects,
    /// The run in progress goes on with the next group, without a gap.
    pub(super) continuing: bool,
    /// How many fragments the run in progress put into quarantine.
    pub(super) faults: u32,
    /// The backend is to forget before the next apply.
    pub(super) forget: bool,
    /// Everything is being written again; until that is through, a compare would remove what is still to come.
    pub(super) rebuilding: bool,
    /// The backend remembers the base.
    pub(super) base_proved: bool,
    /// The next apply is the base alone.
    pub(super) probe: bool,
    pub(super) counters: Counters,
    /// What the backend says of itself.
    standing: Standing,
    last_owed: PerFamily<Option<Moment>>,
    pub(super) last_observed: Option<Moment>,
    pub(super) last_success: Option<Moment>,
    pub(super) last_apply: Option<Duration>,
}

impl Engine {
    pub fn new(pacing: Pacing) -> Self {
        Engine {
            synced: None,
            stopped: false,
            started: false,
            ledger: Ledger::new(&pacing),
            upkeep: Upkeep::new(&pacing),
            flight: None,
            ended: None,
            rest: Rest::new(&pacing),
            turn: Turn::Quarantined,
            retry: Backoff::new(pacing.first_retry, pacing.sync_period),
            trouble: None,
            base_trouble: false,
            repair_trouble: None,
            drift: DriftNotices::default(),
            suspects: Suspects::default(),
            continuing: false,
            faults: 0,
            forget: false,
            rebuilding: false,
            base_proved: false,
            probe: false,
            counters: Counters::default(),
            standing: Standing::default(),
            last_owed: PerFamily::default(),
            last_observed: None,
            last_success: None,
            last_apply: None,
            pacing,
        }
    }

    /// Takes in one event; says what is to be done. `now` must not go back.
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Action> {
        self.step_since(event, now, now)
    }

    /// The same for an event that has been known for a while: changes are as old as that. Not before the last step.
    pub fn step_since(&mut self, event: Event, since: Moment, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Resolved(changes) => self.resolved(changes, since, &mut actions),
            Event::Synced => {
                if self.synced.is_none() {
                    self.synced = Some(now);
                    self.last_owed = PerFamily::new(|_| Some(now));
                    self.ledger.restamp(now);
                }
            }
            Event::BaseChanged => self.upkeep.ask(Cause::Settings),
            // Before anything is programmed there is nothing of ours to repair, and the first compare is to come.
            Event::DriftSeen(suspicion) if self.synced.is_some() => self.upkeep.suspect(suspicion, now),
            Event::DriftSeen(_) => {}
            Event::Wake => {}
            Event::ApplyDone(result) => self.apply_done(result, now, &mut actions),
            Event::RepairDone(result) => self.repair_done(result, now, &mut actions),
            Event::Standing(standing) => self.standing = standing,
            Event::Stop => self.stopped = true,
        }
        self.start_next(now, &mut actions);
        actions
    }

    /// How far the newest value of a fragment has come.
    pub fn progress(&self, key: &ServicePortKey) -> Progress {
        self.ledger.progress(key)
    }

    /// Whether the kernel was asked for everything that it does not hold.
    pub fn all_sent(&self) -> bool {
        self.ledger.is_clean()
    }

    /// Whether a kernel action is in flight.
    pub fn busy(&self) -> bool {
        self.flight.is_some()
    }

    fn resolved(&mut self, changes: Resolved, now: Moment, actions: &mut Vec<Action>) {
        let mut news = false;
        for (key, value) in changes {
            match self.ledger.set(key.clone(), value, now) {
                Change::Nothing => {}
                Change::Owed => {
                    news = true;
                    *self.last_owed.get_mut(key.family) = Some(now);
                }
                Change::Released(entry) => actions.push(recovered(key, &entry, now)),
            }
        }
        if news {
            self.retry.hurry();
            if !self.started {
                self.upkeep.hurry();
            }
        }
    }

    /// Starts the next run if one may start now, else asks to be woken when one may.
    fn start_next(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.flight.is_some() || self.stopped || self.synced.is_none() {
            return;
        }
        self.suspects.settle(|key| self.ledger.is_dirty(key));
        if self.suspects.is_empty() && !self.probe {
            self.continuing = false;
            self.rebuilding = false;
        }
        if !self.continuing || self.faults >= FAULTS_PER_RUN {
            self.continuing = false;
            self.faults = 0;
            self.rest.run_over(now);
        }
        let turns = self.turn.following();
        let turns: &[Turn] = if self.continuing { &[Turn::Suspects] } else { &turns };
        let mut soonest: Option<Moment> = None;
        for turn in turns {
            let Some(ready) = self.ready(*turn) else { continue };
            let at = ready.max(self.gap_over(*turn));
            if at <= now {
                self.turn = *turn;
                self.start(*turn, now, actions);
                return;
            }
            soonest = Some(soonest.map_or(at, |soonest| soonest.min(at)));
        }
        actions.extend(soonest.map(Action::WakeAt));
    }

    /// When the gap after the last run is over. Compares have rests of their own.
    fn gap_over(&self, turn: Turn) -> Moment {
        let configured = self.ended.map_or(Moment::ZERO, |ended| ended.saturating_add(self.pacing.min_sync_period));
        match turn {
            Turn::Partial => Moment::ZERO,
            _ if self.continuing => Moment::ZERO,
            Turn::Repair => configured,
            Turn::Fresh | Turn::Suspects | Turn::Quarantined => configured.max(self.rest.until()),
        }
    }

    /// When a turn may be taken; `None`: there is nothing to do in it.
    fn ready(&self, turn: Turn) -> Option<Moment> {
        match turn {
            Turn::Partial | Turn::Repair if self.rebuilding => None,
            Turn::Partial => self.upkeep.partial_ready(),
            Turn::Repair => {
                let owing = !self.ledger.is_clean();
                let tidy = self.suspects.is_empty() && !(owing && self.retry.failing());
                self.upkeep.ready(tidy)
            }
            Turn::Fresh => {
                let any = self.started && !self.probe && self.fresh().next().is_some();
                any.then(|| self.retry.ready())
            }
            Turn::Suspects => (self.probe || !self.suspects.is_empty()).then(|| self.retry.ready()),
            Turn::Quarantined if self.rebuilding => None,
            Turn::Quarantined => self.ledger.quarantine().next().map(|(at, _)| at.max(self.retry.ready())),
        }
    }

    fn start(&mut self, turn: Turn, now: Moment, actions: &mut Vec<Action>) {
        match turn {
            Turn::Partial => {
                let compare = self.upkeep.start_partial();
                self.start_repair(compare, now, actions);
            }
            Turn::Repair => {
                let compare = self.upkeep.start(now);
                self.start_repair(compare, now, actions);
            }
            Turn::Fresh => {
                let keys: Vec<_> = self.fresh().cloned().collect();
                self.start_apply(Batch::Fresh, keys, now, actions);
            }
            Turn::Suspects if self.probe => self.start_apply(Batch::Probe, Vec::new(), now, actions),
            Turn::Suspects => {
                let keys = self.suspects.next(|key| self.ledger.is_dirty(key)).unwrap_or_default();
                self.start_apply(Batch::Suspects, keys, now, actions);
            }
            Turn::Quarantined => {
                let next = self.ledger.quarantine().next().map(|(_, key)| key.clone());
                self.start_apply(Batch::Quarantined, next.into_iter().collect(), now, actions);
            }
        }
    }

    fn start_apply(&mut self, batch: Batch, keys: Vec<ServicePortKey>, now: Moment, actions: &mut Vec<Action>) {
        let moves = match (batch, keys.as_slice()) {
            (Batch::Quarantined, [key]) => self.ledger.send_quarantined(key),
            _ => self.ledger.send(&keys),
        };
        let forget = std::mem::take(&mut self.forget);
        self.flight = Some(Flight::Apply { batch, keys, moves: moves.clone(), began: now });
        actions.push(Action::Apply { moves, forget });
    }

    /// The model of the first compare is all that is desired; later ones hold the kernel to what it said yes to.
    fn start_repair(&mut self, compare: Compare, now: Moment, actions: &mut Vec<Action>) {
        let first = !self.started;
        let model = if first {
            let keys: Vec<_> = self.ledger.dirty().cloned().collect();
            self.ledger.send(&keys);
            self.ledger.desired().clone()
        } else {
            self.ledger.applied().clone()
        };
        actions.push(Action::Repair { model, scope: compare.scope(), mode: compare.purpose.mode() });
        self.flight = Some(Flight::Repair { compare, first, began: now });
    }

    /// Everything dirty and under no suspicion.
    fn fresh(&self) -> impl Iterator<Item = &ServicePortKey> {
        self.ledger.dirty().filter(|key| !self.suspects.contains(key))
    }

    /// A snapshot.
    pub fn status(&self) -> Status {
        let applied = self.ledger.applied();
        Status {
            synced: self.synced,
            started: self.started,
            families: PerFamily::new(|family| {
                let (unapplied, oldest_unapplied) = self.ledger.owed(family);
                let oldest_unapplied = oldest_unapplied.filter(|_| self.synced.is_some());
                let last_owed = *self.last_owed.get(family);
                FamilyStatus { applied: self.ledger.in_force(family), unapplied, oldest_unapplied, last_owed }
            }),
            unsure_since: self.upkeep.unsure_since(),
            last_observed: self.last_observed,
            last_success: self.last_success,
            last_apply: self.last_apply,
            quarantined: self.quarantined(applied),
            counters: self.counters.clone(),
            standing: self.standing,
            facts: FactCounts::default(),
            facts_taken: FactCounts::default(),
            late_after: self.pacing.sync_period.saturating_mul(2),
            blind_after: self.pacing.sync_period.saturating_mul(BLIND_PERIODS),
        }
    }

    fn quarantined(&self, applied: &Fragments) -> Vec<QuarantinedStatus> {
        let entries = self.ledger.quarantine().iter();
        entries
            .map(|(key, entry)| QuarantinedStatus {
                key: key.clone(),
                reason: entry.reason.clone(),
                since: entry.since,
                attempts: entry.attempts,
                kept: applied.contains(key),
            })
            .collect()
    }
}

pub(super) fn recovered(key: ServicePortKey, entry: &Entry, now: Moment) -> Action {
    let after = now.saturating_sub(entry.since);
    Action::Notice(Notice::Recovered { key, attempts: entry.attempts, after })
}
