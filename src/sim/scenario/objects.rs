//! Manifests → updates.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Fixture, ScenarioError, read};
use crate::net::ObjectName;
use crate::source::wire;
use crate::state::{Fact, FactKey, Kind, Node, Update};

/// A Kubernetes object that can be a fact.
#[derive(Deserialize)]
#[serde(tag = "kind")]
enum Object {
    Service(wire::Service),
    EndpointSlice(wire::EndpointSlice),
    Node(wire::Node),
    #[serde(rename = "ServiceCIDR")]
    ServiceCidr(wire::ServiceCidr),
}

impl Object {
    /// The fact, or `None` where it is not selected: it is as if it did not exist. What can not be used is an error:
    /// a scenario has no typing mistakes.
    fn to_fact(&self, names: &mut wire::Interner) -> Result<(FactKey, Option<Fact>), String> {
        let (key, fact, problems) = match self {
            Object::Service(service) => {
                let (fact, problems) = service.to_fact(names);
                let fact = Fact::Service(fact);
                (fact.key(), service.is_selected().then_some(fact), problems)
            }
            Object::EndpointSlice(slice) => {
                let (fact, problems) = slice.to_fact(names);
                let namespace = slice.metadata.namespace.as_deref().unwrap_or("default");
                let name = ObjectName::new(namespace, slice.metadata.name.as_str());
                let key = FactKey { kind: Kind::EndpointSlice, name };
                (key, fact.filter(|_| slice.is_selected()).map(Fact::EndpointSlice), problems)
            }
            Object::Node(node) => {
                let (fact, problems) = node.to_fact(names);
                let fact = Fact::Node(fact);
                (fact.key(), Some(fact), problems)
            }
            Object::ServiceCidr(cidr) => {
                let (fact, problems) = cidr.to_fact(names);
                let fact = Fact::ServiceCidr(fact);
                (fact.key(), Some(fact), problems)
            }
        };
        problems.first().map_or(Ok((key, fact)), |problem| Err(problem.to_string()))
    }
}

/// The objects of some files in the folder.
pub fn objects(
    folder: &Path,
    files: &[String],
    names: &mut wire::Interner,
) -> Result<Vec<(FactKey, Option<Fact>)>, ScenarioError> {
    let mut found = Vec::new();
    for file in files {
        let path = folder.join(file);
        let at = |reason: String| ScenarioError { path: path.clone(), reason };
        let objects: Vec<Object> = serde_saphyr::from_multiple(&read(&path)?).map_err(|error| at(error.to_string()))?;
        for object in objects {
            found.push(object.to_fact(names).map_err(at)?);
        }
    }
    Ok(found)
}

/// The first lists of every kind. The API server knows the fixture's node, also if no manifest says anything about it.
pub fn first_updates(objects: Vec<(FactKey, Option<Fact>)>) -> Vec<Update> {
    let mut by_kind: BTreeMap<Kind, Vec<Fact>> = Kind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
    for (key, fact) in objects {
        by_kind.entry(key.kind).or_default().extend(fact);
    }
    let nodes = by_kind.entry(Kind::Node).or_default();
    if nodes.is_empty() {
        nodes.push(Fact::Node(Node { name: Fixture::NODE.into(), ..Node::default() }));
    }
    by_kind.into_iter().map(|(kind, facts)| Update::Replace { kind, facts }).collect()
}

/// `Service ns/name` or `EndpointSlice ns/name`.
pub fn key_of(text: &str) -> Result<FactKey, String> {
    let parts = text.split_once(' ').and_then(|(kind, name)| Some((kind, name.split_once('/')?)));
    match parts {
        Some(("Service", (namespace, name))) => {
            Ok(FactKey { kind: Kind::Service, name: ObjectName::new(namespace, name) })
        }
        Some(("EndpointSlice", (namespace, name))) => {
            Ok(FactKey { kind: Kind::EndpointSlice, name: ObjectName::new(namespace, name) })
        }
        _ => Err(format!("delete: {text:?} is not Service namespace/name or EndpointSlice namespace/name")),
    }
}
