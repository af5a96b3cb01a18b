//! What the files of a folder say together. Pure: texts go in, differences come out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::error::FileError;
use super::objects::{self, Rejection};
use super::status::Summary;
use crate::source::wire::{Interner, Problem};
use crate::state::{Fact, FactKey, Kind, Update};

/// Path of a file; the order of paths decides between files that hold the same object.
pub(super) type FileName = Arc<Path>;

/// Facts that have changed before the shared strings are swept.
const SWEEP_AFTER: usize = 10_000;

/// What one file says.
#[derive(Debug, Default)]
struct File {
    /// `None` is an object that is there but not served.
    objects: BTreeMap<FactKey, Option<Arc<Fact>>>,
    problems: BTreeSet<Problem>,
    ignored: BTreeMap<String, usize>,
    /// Why the latest text of the file is not used.
    error: Option<FileError>,
}

/// Something to tell the user, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Broken(FileError),
    Fixed(FileName),
    LeftOut(FileName, Problem),
    /// Several files hold the same object; the first is served.
    Duplicate(Duplicate),
    Ignored {
        kind: String,
    },
}

/// An object that several files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub object: FactKey,
    /// In order; the first one is served.
    pub files: Vec<FileName>,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut files = self.files.iter();
        let served = files.next().map(|file| file.display().to_string()).unwrap_or_default();
        let others: Vec<_> = files.map(|file| file.display().to_string()).collect();
        let object = ObjectText(&self.object);
        write!(f, "{object} is in {served} and in {}: the one in {served} is used", others.join(" and in "))
    }
}

/// `Service ns/name`, `Node name`.
struct ObjectText<'a>(&'a FactKey);

impl fmt::Display for ObjectText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0.name;
        match self.0.kind {
            Kind::Service => write!(f, "Service {name}"),
            Kind::EndpointSlice => write!(f, "EndpointSlice {name}"),
            Kind::Node => write!(f, "Node {}", name.name),
            Kind::ServiceCidr => write!(f, "ServiceCIDR {}", name.name),
        }
    }
}

/// What a settled set of changes comes to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub updates: Vec<Update>,
    pub notices: Vec<Notice>,
}

/// All files.
pub(super) struct Folder {
    node_name: Arc<str>,
    names: Interner,
    files: BTreeMap<FileName, File>,
    /// The files that hold an object, in order.
    holders: BTreeMap<FactKey, Vec<FileName>>,
    /// Objects that may have changed since the last [`settle`](Folder::settle), with the fact as it was then.
    pending: BTreeMap<FactKey, Option<Arc<Fact>>>,
    notices: Vec<Notice>,
    duplicates: BTreeMap<FactKey, Duplicate>,
    known_ignored: BTreeSet<String>,
    /// How many facts were served at the last `settle`.
    served: usize,
    changed_since_sweep: usize,
}

impl Folder {
    pub fn new(node_name: Arc<str>) -> Self {
        Folder {
            node_name,
            names: Interner::default(),
            files: BTreeMap::new(),
            holders: BTreeMap::new(),
            pending: BTreeMap::new(),
            notices: Vec::new(),
            duplicates: BTreeMap::new(),
            known_ignored: BTreeSet::new(),
            served: 0,
            changed_since_sweep: 0,
        }
    }

    /// Files that are known, usable or not.
    pub fn files(&self) -> impl Iterator<Item = &FileName> {
        self.files.keys()
    }

    /// A file has this text now. If it cannot be used, what the file said before stays.
    pub fn update(&mut self, file: &FileName, bytes: &[u8]) {
        match objects::read(file, bytes, &self.node_name, &mut self.names) {
            Ok(contents) => self.accept(file, contents),
            Err(rejection) => self.reject(file, rejection),
        }
    }

    /// A file is there but cannot be read. What it said before stays.
    pub fn fail(&mut self, file: &FileName, message: String) {
        self.reject(file, Rejection { place: None, message });
    }

    /// A file is gone.
    pub fn remove(&mut self, file: &FileName) {
        let Some(old) = self.files.get(file) else { return };
        let keys: Vec<FactKey> = old.objects.keys().cloned().collect();
        for key in keys {
            self.touch(&key);
            self.release(&key, file);
        }
        self.files.remove(file);
    }

    /// Everything that changed since the last time, as one batch.
    pub fn settle(&mut self) -> Settled {
        let mut updates = Vec::new();
        for (key, before) in std::mem::take(&mut self.pending) {
            self.report_duplicate(&key);
            let after = self.served(&key);
            self.served = self.served + usize::from(after.is_some()) - usize::from(before.is_some());
            match after {
                Some(fact) if before.as_ref() != Some(&fact) => updates.push(Update::Upsert((*fact).clone())),
                None if before.is_some() => updates.push(Update::Delete(key)),
                _ => {}
            }
        }
        self.changed_since_sweep += updates.len();
        if self.changed_since_sweep >= SWEEP_AFTER {
            self.changed_since_sweep = 0;
            self.names.sweep();
        }
        Settled { updates, notices: std::mem::take(&mut self.notices) }
    }

    /// All facts: a `Replace` for every kind, also for those that have none.
    pub fn all(&self) -> Vec<Update> {
        let mut kinds = Kind::ALL.map(|kind| (kind, Vec::new()));
        for key in self.holders.keys() {
            if let (Some(fact), Some((_, facts))) =
                (self.served(key), kinds.iter_mut().find(|(kind, _)| *kind == key.kind))
            {
                facts.push((*fact).clone());
            }
        }
        kinds.into_iter().map(|(kind, facts)| Update::Replace { kind, facts }).collect()
    }

    pub fn errors(&self) -> impl Iterator<Item = &FileError> {
        self.files.values().filter_map(|file| file.error.as_ref())
    }

    pub fn problems(&self) -> impl Iterator<Item = (&FileName, &Problem)> {
        self.files.iter().flat_map(|(name, file)| file.problems.iter().map(move |problem| (name, problem)))
    }

    pub fn duplicates(&self) -> impl Iterator<Item = &Duplicate> {
        self.duplicates.values()
    }

    pub fn summary(&self) -> Summary {
        let mut ignored = BTreeMap::new();
        for (kind, count) in self.files.values().flat_map(|file| &file.ignored) {
            *ignored.entry(kind.clone()).or_default() += count;
        }
        Summary {
            files: self.files.len(),
            objects: self.served,
            errors: self.errors().map(|error| (error.file.clone(), error.clone())).collect(),
            problems: self.files.values().map(|file| file.problems.len()).sum(),
            duplicates: self.duplicates.len(),
            ignored,
            folder_error: None,
        }
    }

    fn accept(&mut self, name: &FileName, contents: objects::Contents) {
        let old = self.files.remove(name).unwrap_or_default();
        if old.error.is_some() {
            self.notices.push(Notice::Fixed(name.clone()));
        }
        // The old file stays in place until all that it served is noted.
        let mut new = File { ignored: contents.ignored, ..File::default() };
        let mut touched = Vec::new();
        for (key, object) in contents.objects {
            new.problems.extend(object.problems);
            let fact = match old.objects.get(&key) {
                Some(before) if *before == object.fact => before.clone(),
                _ => {
                    touched.push(key.clone());
                    object.fact
                }
            };
            new.objects.insert(key, fact);
        }
        let gone: Vec<_> = old.objects.keys().filter(|key| !new.objects.contains_key(key)).cloned().collect();
        let fresh = new.problems.difference(&old.problems);
        self.notices.extend(fresh.map(|problem| Notice::LeftOut(name.clone(), problem.clone())));
        for kind in new.ignored.keys() {
            if self.known_ignored.insert(kind.clone()) {
                self.notices.push(Notice::Ignored { kind: kind.clone() });
            }
        }
        self.files.insert(name.clone(), old);
        for key in touched.iter().chain(&gone) {
            self.touch(key);
        }
        for key in &gone {
            self.release(key, name);
        }
        for key in touched {
            self.claim(key, name);
        }
        self.files.insert(name.clone(), new);
    }

    fn reject(&mut self, name: &FileName, rejection: Rejection) {
        let error = FileError { file: name.to_path_buf(), place: rejection.place, message: rejection.message };
        let file = self.files.entry(name.clone()).or_default();
        if file.error.as_ref() != Some(&error) {
            self.notices.push(Notice::Broken(error.clone()));
            file.error = Some(error);
        }
    }

    /// Remembers what is served for an object before it may change.
    fn touch(&mut self, key: &FactKey) {
        if !self.pending.contains_key(key) {
            let served = self.served(key);
            self.pending.insert(key.clone(), served);
        }
    }

    /// The fact of an object from the first file that holds it.
    fn served(&self, key: &FactKey) -> Option<Arc<Fact>> {
        let first = self.holders.get(key)?.first()?;
        self.files.get(first)?.objects.get(key)?.clone()
    }

    fn claim(&mut self, key: FactKey, file: &FileName) {
        let holders = self.holders.entry(key).or_default();
        if let Err(place) = holders.binary_search(file) {
            holders.insert(place, file.clone());
        }
    }

    fn release(&mut self, key: &FactKey, file: &FileName) {
        if let Some(holders) = self.holders.get_mut(key) {
            holders.retain(|holder| holder != file);
            if holders.is_empty() {
                self.holders.remove(key);
            }
        }
    }

    /// Tells about an object in several files when the set of files changes.
    fn report_duplicate(&mut self, key: &FactKey) {
        let files = self.holders.get(key).filter(|files| files.len() > 1);
        let Some(files) = files else {
            self.duplicates.remove(key);
            return;
        };
        if self.duplicates.get(key).is_none_or(|known| known.files != *files) {
            let duplicate = Duplicate { object: key.clone(), files: files.clone() };
            self.notices.push(Notice::Duplicate(duplicate.clone()));
            self.duplicates.insert(key.clone(), duplicate);
        }
    }
}
