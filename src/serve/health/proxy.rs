//! `/healthz` and `/livez` (contract 6.1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use super::{OnProbe, Probe, rfc3339_nano};
use crate::net::Family;
use crate::resolve::health::NodeEligibility;
use crate::serve::http::{Handler, not_found, page};

/// How one family is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyHealth {
    pub healthy: bool,
    /// When the kernel last held all that was wanted. `None`: nothing is wanted yet, and the family is not told of.
    pub last_updated: Option<SystemTime>,
    /// Why it is not healthy.
    pub reason: Option<String>,
}

impl Default for FamilyHealth {
    /// Of which nothing is wanted.
    fn default() -> Self {
        FamilyHealth { healthy: true, last_updated: None, reason: None }
    }
}

type Ask<T> = Box<dyn Fn() -> T + Send + Sync>;

/// What health is made of.
pub struct Sources {
    families: Box<dyn Fn(Family) -> FamilyHealth + Send + Sync>,
    node: watch::Receiver<NodeEligibility>,
    remarks: Ask<Vec<String>>,
    now: Ask<SystemTime>,
    on_probe: OnProbe,
}

impl Sources {
    /// How a family is now, and whether the node may have traffic.
    pub fn new(
        families: impl Fn(Family) -> FamilyHealth + Send + Sync + 'static,
        node: watch::Receiver<NodeEligibility>,
    ) -> Self {
        Sources {
            families: Box::new(families),
            node,
            remarks: Box::new(Vec::new),
            now: Box::new(SystemTime::now),
            on_probe: Box::new(|_, _| {}),
        }
    }

    /// What else is not as it should be, and no reason to send traffic elsewhere: it is told in the body and changes nothing
    /// else. For example, that the API server cannot be reached.
    #[must_use]
    pub fn with_remarks(self, remarks: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Sources { remarks: Box::new(remarks), ..self }
    }

    /// Who counts probes.
    #[must_use]
    pub fn with_probes(self, on_probe: impl Fn(Probe, StatusCode) + Send + Sync + 'static) -> Self {
        Sources { on_probe: Box::new(on_probe), ..self }
    }

    /// Another clock.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Sources { now: Box::new(now), ..self }
    }
}

/// The health of this proxy.
pub struct ProxyHealth {
    sources: Sources,
    stopping: AtomicBool,
}

/// The body of an answer; field by field as kube-proxy has it, in its order. `reasons` is ours: it comes last, and only where
/// there is something to say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, FamilyBody>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyBody {
    last_updated: String,
    healthy: bool,
}

/// All that is known at one moment.
struct Picture {
    families: [(Family, FamilyHealth); 2],
    stopping: bool,
}

impl Picture {
    fn is_healthy(&self) -> bool {
        !self.stopping && self.known().all(|(_, health)| health.healthy)
    }

    fn known(&self) -> impl Iterator<Item = &(Family, FamilyHealth)> {
        self.families.iter().filter(|(_, health)| health.last_updated.is_some())
    }

    /// Why it is not healthy.
    fn reasons(&self) -> impl Iterator<Item = String> {
        let stopping = self.stopping.then(|| "this proxy is about to stop; its rules stay".to_owned());
        stopping.into_iter().chain(self.known().filter_map(|(_, health)| health.reason.clone()))
    }
}

impl ProxyHealth {
    pub fn new(sources: Sources) -> Arc<Self> {
        Arc::new(ProxyHealth { sources, stopping: AtomicBool::new(false) })
    }

    /// All families are healthy, and the process is not about to stop. The node has no part in this.
    pub fn is_healthy(&self) -> bool {
        self.picture().is_healthy()
    }

    /// From now on every answer is 503, while the rules stay: load balancers look elsewhere before the process ends.
    pub fn start_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Serves `/healthz` and `/livez`, by whatever method, and nothing else.
    pub fn handler(self: &Arc<Self>) -> Handler {
        let health = self.clone();
        Handler::new(move |request, _| match request.uri.path() {
            "/healthz" => health.healthz(),
            "/livez" => health.livez(),
            _ => not_found(),
        })
    }

    fn healthz(&self) -> Response<Bytes> {
        let eligibility = *self.sources.node.borrow();
        let picture = self.picture();
        let is_well = picture.is_healthy() && eligibility.is_eligible();
        let (code, mut body) = self.answer(&picture, is_well);
        body.node_eligible = Some(eligibility.is_eligible());
        body.reasons.extend(why_not(eligibility).map(str::to_owned));
        (self.sources.on_probe)(Probe::Healthz, code);
        respond(code, body, (self.sources.remarks)())
    }

    fn livez(&self) -> Response<Bytes> {
        let picture = self.picture();
        let (code, body) = self.answer(&picture, picture.is_healthy());
        (self.sources.on_probe)(Probe::Livez, code);
        respond(code, body, (self.sources.remarks)())
    }

    fn picture(&self) -> Picture {
        let families = Family::ALL.map(|family| (family, (self.sources.families)(family)));
        Picture { families, stopping: self.stopping.load(Ordering::Relaxed) }
    }

    /// Code and body of both pages. Who is well was updated just now: there was nothing to update.
    fn answer(&self, picture: &Picture, is_well: bool) -> (StatusCode, Body) {
        let now = (self.sources.now)();
        let latest = picture.known().filter_map(|(_, health)| health.last_updated).max();
        let family = |(family, health): &(Family, FamilyHealth)| {
            let body = FamilyBody { last_updated: rfc3339_nano(health.last_updated), healthy: health.healthy };
            (family.as_str(), body)
        };
        let body = Body {
            last_updated: rfc3339_nano(if is_well { Some(now) } else { latest }),
            current_time: rfc3339_nano(Some(now)),
            node_eligible: None,
            healthy: picture.is_healthy(),
            status: picture.known().map(family).collect(),
            reasons: picture.reasons().collect(),
        };
        (if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }
}

fn why_not(eligibility: NodeEligibility) -> Option<&'static str> {
    match eligibility {
        NodeEligibility::Eligible => None,
        NodeEligibility::Unknown => Some("the Node object was not seen yet"),
        NodeEligibility::Leaving => Some("the node is being removed from the cluster"),
        NodeEligibility::Gone => Some("the Node object was deleted"),
    }
}

fn respond(code: StatusCode, mut body: Body, remarks: Vec<String>) -> Response<Bytes> {
    body.reasons.extend(remarks);
    // Strings, booleans and maps of them: writing them cannot fail.
    page(code, "application/json", serde_json::to_vec(&body).unwrap_or_default())
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
