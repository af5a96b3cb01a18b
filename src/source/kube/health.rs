//! Logs an outage once when it begins, once for each new reason, and once when it is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::resource::Resource;
use super::status::Status;
use super::step::Failure;

/// The connection of one kind, as it was told to the log.
pub(super) struct Health {
    resource: Resource,
    status: Arc<Status>,
    outage: Option<Outage>,
    is_absent: bool,
}

struct Outage {
    began: Instant,
    /// Reasons that were logged.
    reasons: BTreeSet<&'static str>,
    /// Since when answers arrive again.
    better_since: Option<Instant>,
}

impl Health {
    pub fn new(resource: Resource, status: Arc<Status>) -> Health {
        Health { resource, status, outage: None, is_absent: false }
    }

    /// The server answers a request.
    pub fn answered(&mut self) {
        self.status.set_connected(self.resource.kind, true);
        if let Some(outage) = &mut self.outage {
            outage.better_since.get_or_insert_with(Instant::now);
        }
    }

    /// When the outage will be over if the answer that is being read lasts until then.
    pub fn over_at(&self, steady: Duration) -> Option<Instant> {
        Some(self.outage.as_ref()?.better_since? + steady)
    }

    /// The answers have lasted.
    pub fn recovered(&mut self) {
        if let Some(outage) = self.outage.take() {
            let kind = self.resource.kind;
            let outage_seconds = outage.began.elapsed().as_secs();
            tracing::info!(?kind, outage_seconds, "API server: recovered");
        }
    }

    /// A request failed, or a watch broke; the next try is after `retry`.
    pub fn failed(&mut self, failure: &Failure, retry: Duration) {
        let kind = self.resource.kind;
        self.status.set_connected(kind, false);
        self.status.update(kind, |status| {
            status.failures += 1;
            status.last_error = Some(failure.to_string());
        });
        let outage = self.outage.get_or_insert_with(|| Outage {
            began: Instant::now(),
            reasons: BTreeSet::new(),
            better_since: None,
        });
        outage.better_since = None;
        let retry_seconds = retry.as_secs_f32();
        if !outage.reasons.insert(reason(failure)) {
            tracing::debug!(?kind, retry_seconds, "API server: {failure}");
            return;
        }
        match failure {
            Failure::Denied { .. } => tracing::error!(
                ?kind,
                retry_seconds,
                verbs = "list, watch",
                resource = self.resource.rbac_name,
                "API server: {failure}: allow list and watch on {} (RBAC) to the user of this proxy",
                self.resource.rbac_name,
            ),
            // A version that is too old is part of normal life.
            Failure::Gone(_) => tracing::info!(?kind, retry_seconds, "API server: {failure}"),
            _ => tracing::warn!(?kind, retry_seconds, "API server: {failure}; what was received last stays in force"),
        }
    }

    /// The server has no API for this kind.
    pub fn absent(&mut self, retry: Duration) {
        let kind = self.resource.kind;
        self.outage = None;
        self.status.set_connected(kind, true);
        if !std::mem::replace(&mut self.is_absent, true) {
            let retry_seconds = retry.as_secs_f32();
            let resource = self.resource.rbac_name;
            tracing::info!(?kind, resource, retry_seconds, "API server: has no such API; going on without");
        }
    }

    /// A complete list arrived.
    pub fn synced(&mut self, objects: usize) {
        let kind = self.resource.kind;
        self.is_absent = false;
        let mut first = false;
        self.status.update(kind, |status| {
            first = !std::mem::replace(&mut status.synced, true);
            status.relists += u64::from(!first);
        });
        let message = if first { "API server: synced" } else { "API server: listed anew" };
        tracing::info!(?kind, objects, "{message}");
    }
}

/// Failures with the same word are the same to the log.
fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::Unreachable(_) => "unreachable",
        Failure::HungUp(_) => "hung up",
        Failure::Stalled(_) => "stalled",
        Failure::Gone(_) => "gone",
        Failure::Missing(_) => "missing",
        Failure::Denied { code: 401, .. } => "unauthorized",
        Failure::Denied { .. } => "forbidden",
        Failure::Refused { .. } => "refused",
        Failure::Busy { .. } => "busy",
        Failure::Server { .. } => "server",
        Failure::Malformed(_) => "malformed",
        Failure::TooLarge(_) => "too large",
        Failure::EndlessInitialEvents => "endless initial events",
    }
}
