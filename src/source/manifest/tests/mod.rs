mod core;
mod fuzz;
mod kinds;
mod live;
mod messages;
mod reading;

use std::path::Path;
use std::sync::Arc;

use super::folder::{FileName, Folder, Notice, Settled};
use crate::state::{Fact, FactKey, Kind, Update};

/// A Service with one port.
fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: 10.0.0.1\n  ports:\n  - port: {port}\n"
    )
}

fn file(name: &str) -> FileName {
    Path::new(name).into()
}

fn folder() -> Folder {
    Folder::new(Arc::from("node-a"))
}

/// The key of a namespaced object, or of a cluster-scoped one if the namespace is empty.
fn key(kind: Kind, namespace: &str, name: &str) -> FactKey {
    FactKey { kind, name: crate::net::ObjectName::new(namespace, name) }
}

/// `+name:port` for a Service that is sent, `-name` for one that goes, in order.
fn services(updates: &[Update]) -> Vec<String> {
    let shown = |service: &crate::state::Service| {
        format!("{}:{}", service.name.name, service.ports.first().map_or(0, |port| port.port))
    };
    let mut texts = Vec::new();
    for update in updates {
        match update {
            Update::Upsert(Fact::Service(service)) => texts.push(format!("+{}", shown(service))),
            Update::Delete(key) => texts.push(format!("-{}", key.name.name)),
            Update::Replace { kind: Kind::Service, facts } => texts.extend(facts.iter().map(|fact| match fact {
                Fact::Service(service) => format!("={}", shown(service)),
                other => panic!("{other:?} among services"),
            })),
            Update::Replace { facts, .. } => assert_eq!(facts, &[]),
            other => panic!("{other:?}"),
        }
    }
    texts
}

/// What a file's text leads to in an empty folder.
fn settle(name: &str, text: &str) -> Settled {
    let mut folder = folder();
    folder.update(&file(name), text.as_bytes());
    folder.settle()
}

/// The one fact of a text that has no mistakes and no problems.
fn only_fact(text: &str) -> Fact {
    let settled = settle("a.yaml", text);
    assert_eq!(settled.notices, []);
    match settled.updates.as_slice() {
        [Update::Upsert(fact)] => fact.clone(),
        other => panic!("{other:?}"),
    }
}

/// The error message of a text that has a mistake.
fn error(name: &str, text: &str) -> String {
    let settled = settle(name, text);
    assert_eq!(settled.updates, []);
    match settled.notices.as_slice() {
        [Notice::Broken(error)] => error.to_string(),
        other => panic!("{other:?}"),
    }
}
