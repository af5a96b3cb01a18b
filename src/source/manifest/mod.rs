//! Facts from a folder of YAML and JSON files.
//!
//! The files hold Services, EndpointSlices, Nodes and ServiceCIDRs as `kubectl get -o yaml` prints them: one or many in
//! a file, or in lists. Other kinds are ignored. A file that cannot be used leaves in force what it said before, and
//! all other files are served; a value that cannot be used is left out, and the rest of its object is served.
//!
//! Where to start reading: `folder` is the pure core (texts in, differences out); `objects` reads the text of one
//! file through [`text`](crate::text); `disk` and `read` know files;
//! `watch` and `follow` know when to look.

mod defaults;
mod disk;
mod error;
mod folder;
mod follow;
mod objects;
mod read;
mod status;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use self::disk::Disk;
use self::follow::{Follower, Timing};
use self::watch::Watch;
use super::wire::Problem;
use super::{QUEUE, Updates};
use crate::state::Update;

pub use error::{FileError, ManifestError};
pub use folder::Duplicate;
pub use status::{Status, Summary};

/// Which folder to read, and for which node.
#[derive(Clone, Debug)]
pub struct Config {
    pub dir: PathBuf,
    /// Only the Node of this name becomes a fact.
    pub node_name: Arc<str>,
}

/// What a folder says at one moment.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// A `Replace` for each kind, also for those without objects.
    pub updates: Vec<Update>,
    /// Files that could not be used; nothing of them is in `updates`.
    pub errors: Vec<FileError>,
    /// What had to be left out of objects, with the file.
    pub problems: Vec<(Arc<std::path::Path>, Problem)>,
    /// Objects that several files hold.
    pub duplicates: Vec<Duplicate>,
    pub summary: Summary,
}

/// Reads a folder once, for `weir diff`. Nothing is logged; an error is a folder that cannot be read.
pub fn load(config: Config) -> Result<Loaded, ManifestError> {
    let mut disk = Disk::new(config.dir, config.node_name);
    scan_all(&mut disk)?;
    disk.folder.settle();
    let folder = &disk.folder;
    Ok(Loaded {
        updates: folder.all(),
        errors: folder.errors().cloned().collect(),
        problems: folder.problems().map(|(file, problem)| (file.clone(), problem.clone())).collect(),
        duplicates: folder.duplicates().cloned().collect(),
        summary: folder.summary(),
    })
}

/// Reads a folder and follows it on a thread of its own until the receiver is dropped.
///
/// The first batch replaces all four kinds, which makes them synced; later ones hold only what differs. Files that
/// cannot be used are logged and served once they can be. An error is a folder that cannot be read or watched now.
pub fn start(config: Config) -> Result<(Updates, Status), ManifestError> {
    start_with(config, Timing::default())
}

fn start_with(config: Config, timing: Timing) -> Result<(Updates, Status), ManifestError> {
    let dir = config.dir.clone();
    watch::identity(&dir).map_err(|source| ManifestError::Folder { dir: dir.clone(), source })?;
    // Watching begins before reading, so that no change falls between the two.
    let watch = Watch::new(&dir).map_err(|source| ManifestError::watch(dir.clone(), source))?;
    let mut disk = Disk::new(config.dir, config.node_name);
    scan_all(&mut disk)?;
    disk.folder.settle().notices.iter().for_each(follow::log);
    let status = Status::default();
    status.set(disk.folder.summary());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let first = disk.folder.all();
    let follower = Follower::new(disk, status.clone(), sender.clone(), timing);
    let thread = std::thread::Builder::new().name("manifests".to_owned());
    let run = move || {
        if sender.blocking_send(first).is_ok() {
            drop(sender);
            follower.run(watch);
        }
    };
    thread.spawn(run).map_err(|source| ManifestError::Thread { dir, source })?;
    Ok((receiver, status))
}

fn scan_all(disk: &mut Disk) -> Result<(), ManifestError> {
    disk.scan(&BTreeSet::new()).map_err(|source| ManifestError::Folder { dir: disk.dir.clone(), source })
}
