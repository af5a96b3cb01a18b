//! EndpointSlices.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::names::Interner;
use super::problems::{Problem, Problems};
use super::{ANNOTATION_TRIGGER_TIME, LABEL_SERVICE_NAME, Metadata};
use crate::net::{Family, ObjectName, parse_ip};
use crate::state;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct EndpointSlice<S = String> {
    pub kind: Option<S>,
    pub metadata: Metadata<S>,
    #[serde(default)]
    pub address_type: Option<S>,
    #[serde(default)]
    pub ports: Option<Vec<SlicePort<S>>>,
    #[serde(default)]
    pub endpoints: Option<Vec<Endpoint<S>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct SlicePort<S = String> {
    pub name: Option<S>,
    pub protocol: Option<S>,
    pub port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Endpoint<S = String> {
    /// All but the first are ignored (contract 2.4).
    pub addresses: Option<First<S>>,
    pub conditions: Option<EndpointConditions>,
    pub node_name: Option<S>,
    pub zone: Option<S>,
    pub hints: Option<EndpointHints<S>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct EndpointHints<S = String> {
    pub for_zones: Option<Vec<NameRef<S>>>,
    pub for_nodes: Option<Vec<NameRef<S>>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct NameRef<S = String> {
    pub name: S,
}

/// The first of a list of texts; the others are read over.
#[derive(Clone, Debug, Default)]
pub struct First<S>(pub Option<S>);

impl<'de, S: Deserialize<'de>> Deserialize<'de> for First<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<S>(PhantomData<S>);

        impl<'de, S: Deserialize<'de>> Visitor<'de> for List<S> {
            type Value = First<S>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<First<S>, A::Error> {
                let first = list.next_element()?;
                while list.next_element::<S>()?.is_some() {}
                Ok(First(first))
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}

impl<S: Deref<Target = str> + PartialEq> EndpointSlice<S> {
    /// Contract 2.1: the selectors that an API server applies, for sources that have none.
    pub fn is_selected(&self) -> bool {
        self.metadata.labels.as_ref().is_none_or(|labels| labels.headless.is_none())
    }

    /// The fact, if the slice belongs to a service and has addresses of a family that is proxied (contract 2.4), and
    /// what had to be left out.
    pub fn to_fact(&self, names: &mut Interner) -> (Option<state::EndpointSlice>, Vec<Problem>) {
        let name = self.metadata.object_name();
        let name = ObjectName { namespace: names.intern(&name.namespace), name: name.name };
        let mut problems = Problems::new("EndpointSlice", &name);
        let family = match self.address_type.as_deref() {
            Some("IPv4") => Family::V4,
            Some("IPv6") => Family::V6,
            other => {
                problems.add("addressType", other.unwrap_or_default(), "IPv4 or IPv6");
                return (None, problems.found);
            }
        };
        let service = self.metadata.labels.as_ref().and_then(|labels| labels.service_name.as_deref());
        let Some(service) = service.filter(|service| !service.is_empty()) else {
            problems.add(format!("metadata.labels[{LABEL_SERVICE_NAME}]"), "", "the name of a service");
            return (None, problems.found);
        };
        let Some(service) = problems.name(|| format!("metadata.labels[{LABEL_SERVICE_NAME}]"), service) else {
            return (None, problems.found);
        };
        let fact = state::EndpointSlice {
            // The state shares it with the service; here it would be kept in a table for nothing.
            service: service.into(),
            family,
            ports: slice_ports(self.ports.as_deref(), names, &mut problems),
            endpoints: slice_endpoints(self.endpoints.as_deref(), family, names, &mut problems),
            trigger_time: self.trigger_time(&mut problems),
            name: name.clone(),
        };
        (Some(fact), problems.found)
    }

    fn trigger_time(&self, problems: &mut Problems<'_>) -> Option<i64> {
        let text = self.metadata.annotations.as_ref()?.trigger_time.as_deref()?;
        let parsed = text.parse::<k8s_openapi::jiff::Timestamp>().ok();
        if parsed.is_none() {
            problems.add(format!("metadata.annotations[{ANNOTATION_TRIGGER_TIME}]"), text, "a time in RFC 3339 form");
        }
        parsed.and_then(|time| i64::try_from(time.as_nanosecond()).ok())
    }
}

fn slice_ports<S: Deref<Target = str>>(
    ports: Option<&[SlicePort<S>]>,
    names: &mut Interner,
    problems: &mut Problems<'_>,
) -> Box<[state::SlicePort]> {
    let mut facts = Vec::new();
    for (i, port) in ports.unwrap_or_default().iter().enumerate() {
        let Some(name) = port.name.as_deref() else {
            problems.add(format!("ports[{i}].name"), "", "a name, which may be empty");
            continue;
        };
        let number = problems.port(|| format!("ports[{i}].port"), port.port.unwrap_or(0));
        let protocol = problems.protocol(|| format!("ports[{i}].protocol"), port.protocol.as_deref());
        let name = problems.name(|| format!("ports[{i}].name"), name);
        if let (Some(port), Some(protocol), Some(name)) = (number, protocol, name) {
            facts.push(state::SlicePort { name: names.intern(name), protocol, port });
        }
    }
    facts.into()
}

fn slice_endpoints<S: Deref<Target = str> + PartialEq>(
    endpoints: Option<&[Endpoint<S>]>,
    family: Family,
    names: &mut Interner,
    problems: &mut Problems<'_>,
) -> Box<[state::SliceEndpoint]> {
    let mut facts = Vec::with_capacity(endpoints.map_or(0, <[_]>::len));
    let mut known_hints = Known(Vec::new());
    let mut known_zones = Known(Vec::new());
    for (i, endpoint) in endpoints.unwrap_or_default().iter().enumerate() {
        let Some(text) = endpoint.addresses.as_ref().and_then(|First(first)| first.as_deref()) else { continue };
        let Some(ip) = parse_ip(text).filter(|ip| Family::of(ip) == family) else {
            problems.add(format!("endpoints[{i}].addresses[0]"), text, "an address of the slice's addressType");
            continue;
        };
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        facts.push(state::SliceEndpoint {
            ip,
            conditions: state::Conditions {
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
            },
            location: {
                let hints = endpoint.hints.as_ref();
                let hints = hints.and_then(|hints| known_hints.fact(hints, |hints| hints.to_fact(names)));
                let zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty());
                let zone = zone.map(|zone| known_zones.fact(zone, |zone| names.intern(zone)));
                names.intern_location(endpoint.node_name.as_deref(), zone, hints)
            },
        });
    }
    facts.into()
}

/// The hints or zones that a slice has had so far. They are few, and comparing texts is cheaper than looking up each.
struct Known<'a, K: ?Sized, F>(Vec<(&'a K, F)>);

impl<'a, K: PartialEq + ?Sized, F: Clone> Known<'a, K, F> {
    /// So many are compared.
    const COMPARED: usize = 8;

    fn fact(&mut self, wire: &'a K, make: impl FnOnce(&K) -> F) -> F {
        if let Some((_, fact)) = self.0.iter().rev().take(Self::COMPARED).find(|(known, _)| *known == wire) {
            return fact.clone();
        }
        let fact = make(wire);
        self.0.push((wire, fact.clone()));
        fact
    }
}

impl<S: Deref<Target = str>> EndpointHints<S> {
    fn to_fact(&self, names: &mut Interner) -> Option<Arc<state::Hints>> {
        let list = |names: &mut Interner, refs: &Option<Vec<NameRef<S>>>| {
            refs.iter().flatten().map(|reference| names.intern(&reference.name)).collect::<Box<[_]>>()
        };
        let hints = state::Hints { zones: list(names, &self.for_zones), nodes: list(names, &self.for_nodes) };
        (!hints.zones.is_empty() || !hints.nodes.is_empty()).then(|| names.intern_hints(hints))
    }
}
