//! Objects in memory with their history.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use serde_json::Value;
use tokio::sync::watch;

use super::protobuf;

/// Kinds that are served: `kind`, plural name, whether its objects have a namespace.
pub(super) const KINDS: [(&str, &str, bool); 4] = [
    ("Service", "services", true),
    ("EndpointSlice", "endpointslices", true),
    ("Node", "nodes", false),
    ("ServiceCIDR", "servicecidrs", false),
];

/// The `apiVersion` of each of them.
pub(super) const API_VERSIONS: [&str; 4] = ["v1", "discovery.k8s.io/v1", "v1", "networking.k8s.io/v1"];

/// An object as text, with the parts that selectors look at.
#[derive(Debug)]
pub(super) struct Object {
    pub namespace: String,
    pub name: String,
    pub cluster_ip: String,
    pub labels: Vec<(String, String)>,
    pub json: String,
    /// What [`Object::protobuf`] made of it.
    encoded: OnceLock<Vec<u8>>,
}

impl Object {
    pub(super) fn label(&self, label: &str) -> Option<&String> {
        self.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value)
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_str(&self.json).expect("our own text")
    }

    /// The object in protobuf, without what is around it.
    pub(super) fn protobuf(&self, kind: &str) -> &[u8] {
        self.encoded.get_or_init(|| protobuf::raw(kind, &self.value()))
    }
}

/// What is sent though it is no change of an object.
#[derive(Debug)]
pub(super) enum Raw {
    Event(Value),
    Bytes(Vec<u8>),
}

/// A change: what an object was and is. Neither: something raw for whoever watches.
#[derive(Clone)]
pub(super) struct Change {
    pub version: u64,
    pub old: Option<Arc<Object>>,
    pub new: Option<Arc<Object>>,
    pub raw: Option<Arc<Raw>>,
}

/// A list at one version, for its further pages.
pub(super) type Snapshot = Arc<Vec<Arc<Object>>>;

#[derive(Default)]
struct Objects {
    all: BTreeMap<(String, String), Arc<Object>>,
    history: Vec<Change>,
}

#[derive(Default)]
struct Inner {
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    kinds: [Objects; 4],
    /// Lists of which more pages may be asked for, by token.
    lists: HashMap<String, (u64, Snapshot)>,
}

pub(super) struct Store {
    inner: Mutex<Inner>,
    /// Tells watches that something happened.
    changed: watch::Sender<u64>,
}

/// The version is too old, or from a list that was compacted away.
pub(super) struct Gone;

impl Store {
    pub(super) fn new() -> Store {
        Store { inner: Mutex::new(Inner { version: 1, ..Inner::default() }), changed: watch::Sender::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("lock")
    }

    pub(super) fn put(&self, mut object: Value) -> u64 {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let (index, api_version) = kind_index(&kind);
        let mut inner = self.lock();
        inner.version += 1;
        let version = inner.version;
        object["apiVersion"] = api_version.into();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = object["metadata"]["labels"].as_object();
        let new = Arc::new(Object {
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            cluster_ip: text(&object["spec"]["clusterIP"]),
            labels: labels.into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect(),
            json: object.to_string(),
            encoded: OnceLock::new(),
        });
        let objects = &mut inner.kinds[index];
        let old = objects.all.insert((new.namespace.clone(), new.name.clone()), new.clone());
        objects.history.push(Change { version, old, new: Some(new), raw: None });
        drop(inner);
        self.changed.send_replace(version);
        version
    }

    pub(super) fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let (index, _) = kind_index(kind);
        let mut inner = self.lock();
        let Some(old) = inner.kinds[index].all.remove(&(namespace.to_owned(), name.to_owned())) else { return false };
        inner.version += 1;
        let version = inner.version;
        // As the API server does: the last state, with the version of the deletion.
        let mut value = old.value();
        value["metadata"]["resourceVersion"] = version.to_string().into();
        let last = Arc::new(Object {
            namespace: old.namespace.clone(),
            name: old.name.clone(),
            cluster_ip: old.cluster_ip.clone(),
            labels: old.labels.clone(),
            json: value.to_string(),
            encoded: OnceLock::new(),
        });
        inner.kinds[index].history.push(Change { version, old: Some(last), new: None, raw: None });
        drop(inner);
        self.changed.send_replace(version);
        true
    }

    pub(super) fn inject(&self, kind: &str, raw: Raw) {
        let (index, _) = kind_index(kind);
        let mut inner = self.lock();
        inner.version += 1;
        let version = inner.version;
        inner.kinds[index].history.push(Change { version, old: None, new: None, raw: Some(Arc::new(raw)) });
        drop(inner);
        self.changed.send_replace(version);
    }

    pub(super) fn tick(&self) -> u64 {
        let mut inner = self.lock();
        inner.version += 1;
        inner.version
    }

    pub(super) fn compact(&self) {
        let mut inner = self.lock();
        inner.compacted = inner.version;
        inner.lists.clear();
        for objects in &mut inner.kinds {
            objects.history.clear();
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// All objects of a kind now.
    pub(super) fn snapshot(&self, index: usize) -> (u64, Vec<Arc<Object>>) {
        let inner = self.lock();
        (inner.version, inner.kinds[index].all.values().cloned().collect())
    }

    /// Keeps a list for its further pages; the token names it.
    pub(super) fn keep_list(&self, version: u64, snapshot: Snapshot) -> String {
        let mut inner = self.lock();
        let token = format!("list-{}", inner.lists.len());
        inner.lists.insert(token.clone(), (version, snapshot));
        token
    }

    pub(super) fn kept_list(&self, token: &str) -> Result<(u64, Snapshot), Gone> {
        self.lock().lists.get(token).cloned().ok_or(Gone)
    }

    /// Changes of a kind after a version, at most `max`, and the version up to which that is all.
    pub(super) fn changes(&self, index: usize, after: u64, max: usize) -> Result<(Vec<Change>, u64), Gone> {
        let inner = self.lock();
        if after < inner.compacted {
            return Err(Gone);
        }
        let history = &inner.kinds[index].history;
        let start = history.partition_point(|change| change.version <= after);
        let changes: Vec<Change> = history[start..].iter().take(max).cloned().collect();
        let complete = start + changes.len() == history.len();
        let until = if complete { inner.version } else { changes.last().map_or(after, |change| change.version) };
        Ok((changes, until))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn kind_index(kind: &str) -> (usize, &'static str) {
    let index = KINDS.iter().position(|(name, ..)| *name == kind);
    let index = index.unwrap_or_else(|| panic!("the API server does not serve kind {kind:?}"));
    (index, API_VERSIONS[index])
}
