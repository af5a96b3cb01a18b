//! The text of one file to the facts in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::defaults;
use crate::net::ObjectName;
use crate::source::wire::{self, Interner, Problem, is_name};
use crate::state::{Fact, FactKey, Kind};
use crate::text::{Habits, Mistake, Node, Place, Spot, Value, decode, json, yaml};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub objects: BTreeMap<FactKey, Object>,
    /// How many objects there are of each kind that is not read, by `apiVersion kind`.
    pub ignored: BTreeMap<String, usize>,
}

/// An object of a kind that is read.
#[derive(Debug)]
pub(super) struct Object {
    /// `None` if an API server would not show it to a proxy (contract 2.1), or if nothing of it can be used.
    pub fact: Option<Arc<Fact>>,
    pub problems: Vec<Problem>,
    spot: Spot,
}

/// Why the text of a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub place: Option<Place>,
    pub message: String,
}

/// Kinds that are read: kind, API group, version, name.
const KINDS: [(Kind, &str, &str, &str); 4] = [
    (Kind::Service, "", "v1", "Service"),
    (Kind::EndpointSlice, "discovery.k8s.io", "v1", "EndpointSlice"),
    (Kind::Node, "", "v1", "Node"),
    (Kind::ServiceCidr, "networking.k8s.io", "v1", "ServiceCIDR"),
];

/// Reads a file: JSON if its name ends in `.json`, else YAML.
pub(super) fn read(file: &Path, bytes: &[u8], node_name: &str, names: &mut Interner) -> Result<Contents, Rejection> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let place = before.and_then(|text| Spot::offset(text.len()).place(text));
        Rejection { place, message: "not UTF-8: expected YAML or JSON text in UTF-8".to_owned() }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = file.extension().is_some_and(|extension| extension == "json");
    let mut attempt = |places| {
        let documents =
            if is_json { json::parse(text, Habits::Strict) } else { yaml::parse(text, places, Habits::Strict) }?;
        let mut reader = Reader { text, node_name, names, contents: Contents::default() };
        documents.iter().try_for_each(|document| reader.document(document))?;
        Ok(reader.contents)
    };
    // Places cost time, and only a mistake needs them.
    let result = match attempt(false) {
        Err(Mistake { spot: Spot::Unknown, .. }) => attempt(true),
        other => other,
    };
    result.map_err(|mistake| Rejection { place: mistake.spot.place(text), message: mistake.message })
}

/// `apiVersion` and `kind`.
#[derive(Clone, Copy)]
struct Type<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl Type<'_> {
    fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

struct Reader<'a> {
    text: &'a str,
    node_name: &'a str,
    names: &'a mut Interner,
    contents: Contents,
}

impl Reader<'_> {
    fn document(&mut self, node: &Node) -> Result<(), Mistake> {
        match node.value {
            Value::Null => Ok(()),
            _ => self.object(node, None),
        }
    }

    /// An object or a list of them; `default` is the type of items that do not say theirs.
    fn object(&mut self, node: &Node, default: Option<Type<'_>>) -> Result<(), Mistake> {
        let Value::Map(_) = node.value else {
            return Err(Mistake::new(
                node.spot,
                format!("expected an object with apiVersion and kind, found {}", node.value),
            ));
        };
        let own = Type {
            api_version: type_field(node, "apiVersion", default.map(|default| default.api_version))?,
            kind: type_field(node, "kind", default.map(|default| default.kind))?,
        };
        if let Some(item_kind) = own.kind.strip_suffix("List") {
            let items = node.get("items");
            let known = known_kind(Type { kind: item_kind, ..own }, node)?.is_some() || item_kind.is_empty();
            if known || items.is_some_and(|items| matches!(items.value, Value::List(_))) {
                let default = Type { kind: item_kind, ..own };
                return self.list(items, (!item_kind.is_empty()).then_some(default));
            }
        }
        match known_kind(own, node)? {
            Some(kind) => self.known(kind, node).map_err(|mistake| about(mistake, own.kind, node)),
            None => {
                *self.contents.ignored.entry(format!("{} {}", own.api_version, own.kind)).or_default() += 1;
                Ok(())
            }
        }
    }

    fn list(&mut self, items: Option<&Node>, default: Option<Type<'_>>) -> Result<(), Mistake> {
        match items.map(|items| (items, &items.value)) {
            None => Ok(()),
            Some((_, Value::List(items))) => items.iter().try_for_each(|item| self.object(item, default)),
            Some((items, other)) => Err(Mistake::new(items.spot, format!("items: expected a list, found {other}"))),
        }
    }

    fn known(&mut self, kind: Kind, node: &Node) -> Result<(), Mistake> {
        match kind {
            Kind::Service => {
                let mut object: wire::Service = decode(node)?;
                let mut problems = defaults::service(&mut object);
                let name = self.namespaced(node, &object.metadata)?;
                let (fact, found) = object.to_fact(self.names);
                problems.extend(found);
                let selected = object.is_selected();
                self.add(kind, name, Some(Fact::Service(fact)), selected, problems, node)
            }
            Kind::EndpointSlice => {
                let mut object: wire::EndpointSlice = decode(node)?;
                defaults::slice(&mut object);
                let name = self.namespaced(node, &object.metadata)?;
                let (fact, problems) = object.to_fact(self.names);
                self.add(kind, name, fact.map(Fact::EndpointSlice), object.is_selected(), problems, node)
            }
            Kind::Node => {
                let object: wire::Node = decode(node)?;
                let name = self.cluster_scoped(node, &object.metadata)?;
                if *name.name != *self.node_name {
                    return Ok(());
                }
                let (fact, problems) = object.to_fact(self.names);
                self.add(kind, name, Some(Fact::Node(fact)), true, problems, node)
            }
            Kind::ServiceCidr => {
                let object: wire::ServiceCidr = decode(node)?;
                let name = self.cluster_scoped(node, &object.metadata)?;
                let (fact, problems) = object.to_fact(self.names);
                self.add(kind, name, Some(Fact::ServiceCidr(fact)), true, problems, node)
            }
        }
    }

    fn namespaced(&mut self, node: &Node, metadata: &wire::Metadata) -> Result<ObjectName, Mistake> {
        let name = metadata.object_name();
        check_name(node, "name", &name.name)?;
        check_name(node, "namespace", &name.namespace)?;
        Ok(ObjectName { namespace: self.names.intern(&name.namespace), name: name.name })
    }

    fn cluster_scoped(&mut self, node: &Node, metadata: &wire::Metadata) -> Result<ObjectName, Mistake> {
        check_name(node, "name", &metadata.name)?;
        Ok(ObjectName { namespace: self.names.intern(""), name: self.names.intern(&metadata.name) })
    }

    /// Notes an object. One that is not selected keeps its name, and nothing of it counts.
    fn add(
        &mut self,
        kind: Kind,
        name: ObjectName,
        fact: Option<Fact>,
        selected: bool,
        problems: Vec<Problem>,
        node: &Node,
    ) -> Result<(), Mistake> {
        let object = match selected {
            true => Object { fact: fact.map(Arc::new), problems, spot: node.spot },
            false => Object { fact: None, problems: Vec::new(), spot: node.spot },
        };
        match self.contents.objects.insert(FactKey { kind, name }, object) {
            None => Ok(()),
            Some(first) => {
                let place = first.spot.place(self.text).map_or_else(String::new, |place| format!(", first at {place}"));
                Err(Mistake::new(node.spot, format!("the same object is in this file twice{place}")))
            }
        }
    }
}

/// `apiVersion` or `kind`.
fn type_field<'n>(node: &'n Node, field: &str, default: Option<&'n str>) -> Result<&'n str, Mistake> {
    match node.get(field) {
        Some(value) => value
            .as_text()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Mistake::new(value.spot, format!("{field}: expected a text, found {}", value.value))),
        None => default
            .ok_or_else(|| Mistake::new(node.spot, format!("expected a field \"{field}\": every object has one"))),
    }
}

/// The kind, if it is one that is read; an error if only its version is unknown.
fn known_kind(own: Type<'_>, node: &Node) -> Result<Option<Kind>, Mistake> {
    for (kind, group, version, name) in KINDS {
        if own.kind != name || own.group() != group {
            continue;
        }
        let wanted = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        if own.api_version == wanted {
            return Ok(Some(kind));
        }
        let spot = node.get("apiVersion").map_or(node.spot, |field| field.spot);
        let message = format!("apiVersion: expected {wanted:?} with kind {name}, found {:?}", own.api_version);
        return Err(Mistake::new(spot, message));
    }
    Ok(None)
}

fn check_name(node: &Node, field: &str, name: &str) -> Result<(), Mistake> {
    if is_name(name) {
        return Ok(());
    }
    let metadata = node.get("metadata").unwrap_or(node);
    let spot = metadata.get(field).map_or(metadata.spot, |field| field.spot);
    let found = if name.is_empty() { "nothing".to_owned() } else { format!("{name:?}") };
    Err(Mistake::new(spot, format!("metadata.{field}: expected {}, found {found}", wire::NAME_EXPECTED)))
}

/// Adds which object a mistake is about, as far as it can be told.
fn about(mistake: Mistake, kind: &str, node: &Node) -> Mistake {
    let field = |field| node.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Node::as_text);
    let name = match (field("namespace"), field("name")) {
        (_, None) => return mistake,
        (None, Some(name)) => name.to_owned(),
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
    };
    if !name.split('/').all(is_name) {
        return mistake;
    }
    Mistake { message: format!("{} ({kind} {name})", mistake.message), ..mistake }
}
