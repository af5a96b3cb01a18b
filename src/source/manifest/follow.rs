//! The loop that follows a folder: events in, settled batches out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use tracing::{debug, info, warn};

use super::disk::Disk;
use super::folder::Notice;
use super::read::is_manifest;
use super::status::Status;
use super::watch::{self, Signal, Watch};
use crate::state::Update;

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Changes are taken in once there was no further one for `quiet`, or `longest` after the first.
    pub quiet: Duration,
    /// The same where all changes are files that are complete: just long enough for the other files of a set.
    pub complete_quiet: Duration,
    pub longest: Duration,
    /// The same for a folder that has just come back: somebody is still filling it.
    pub refill_quiet: Duration,
    pub refill_longest: Duration,
    /// How often to check that the path still leads to the folder that is watched.
    pub check: Duration,
    /// How often to look for changes that inotify does not tell: behind links, through `mmap`, on network file systems.
    pub scan: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            quiet: Duration::from_millis(50),
            complete_quiet: Duration::from_millis(5),
            longest: Duration::from_secs(1),
            refill_quiet: Duration::from_millis(500),
            refill_longest: Duration::from_secs(5),
            check: Duration::from_secs(1),
            scan: Duration::from_secs(30),
        }
    }
}

/// What has happened and is not taken in yet.
#[derive(Debug, Default)]
struct Pending {
    changed: BTreeSet<PathBuf>,
    /// Look at all files, not only at `changed`.
    scan: bool,
    /// Since when, and when the latest change was.
    times: Option<(Instant, Instant)>,
    /// The folder has just come back.
    refill: bool,
    /// More may follow: a file is gone, which may be about to come back under another name, or somebody is writing.
    patient: bool,
}

impl Pending {
    fn note(&mut self) {
        let now = Instant::now();
        self.times = Some((self.times.map_or(now, |(first, _)| first), now));
    }

    fn due(&self, timing: &Timing) -> Option<Instant> {
        let (first, latest) = self.times?;
        let (quiet, longest) = match (self.refill, self.patient) {
            (true, _) => (timing.refill_quiet, timing.refill_longest),
            (false, true) => (timing.quiet, timing.longest),
            (false, false) => (timing.complete_quiet, timing.longest),
        };
        Some((latest + quiet).min(first + longest))
    }
}

/// Follows one folder.
pub(super) struct Follower {
    disk: Disk,
    status: Status,
    sender: Sender<Vec<Update>>,
    timing: Timing,
    pending: Pending,
    /// Files that somebody is writing, with the time of the latest write.
    writing: BTreeMap<PathBuf, Instant>,
    /// Why the folder cannot be followed at the moment.
    lost: Option<String>,
    next_scan: Instant,
}

impl Follower {
    /// `disk` has been read and sent, except for what `watch` tells.
    pub fn new(disk: Disk, status: Status, sender: Sender<Vec<Update>>, timing: Timing) -> Self {
        Follower {
            disk,
            status,
            sender,
            timing,
            pending: Pending::default(),
            writing: BTreeMap::new(),
            lost: None,
            next_scan: Instant::now() + timing.scan,
        }
    }

    /// Runs until the receiver is dropped, and for at most one check longer.
    pub fn run(mut self, watch: Watch) {
        let mut watch = Some(watch);
        let mut next_check = Instant::now() + self.timing.check;
        while !self.sender.is_closed() {
            let due = self.pending.due(&self.timing);
            let wake = due.map_or(next_check, |due| due.min(next_check));
            self.wait(&mut watch, wake.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            let due = self.pending.due(&self.timing).is_some_and(|due| due <= now);
            if !due && now < next_check {
                continue;
            }
            next_check = now + self.timing.check;
            let in_place = self.is_in_place(&mut watch);
            if in_place && now >= self.next_scan {
                self.pending.scan = true;
                self.pending.note();
            }
            if in_place && due {
                self.take_in();
            }
        }
    }

    /// Notes what happens to the folder until `timeout` is over.
    fn wait(&mut self, watch: &mut Option<Watch>, timeout: Duration) {
        match watch.as_mut().map(|watch| watch.wait(timeout)) {
            Some(Ok(signals)) => {
                if signals.contains(&Signal::Moved) {
                    // The watch is over, even if a new folder gets the inode number of the old one.
                    *watch = None;
                }
                signals.into_iter().for_each(|signal| self.absorb(signal));
            }
            Some(Err(error)) => {
                self.lose(&error);
                *watch = None;
            }
            None => std::thread::sleep(timeout),
        }
    }

    fn absorb(&mut self, signal: Signal) {
        let is_complete = matches!(&signal, Signal::Changed(name) if is_manifest(name));
        match signal {
            Signal::Overflow => {
                warn!(folder = %self.disk.dir.display(), "too many changes at once for inotify: all files are looked at");
                self.writing.clear();
                self.pending.scan = true;
            }
            Signal::Permissions => self.pending.scan = true,
            // The check before changes are taken in finds out where the folder is.
            Signal::Moved => {}
            Signal::Writing(name) if is_manifest(&name) => {
                let path = self.disk.dir.join(name);
                self.pending.changed.remove(&path);
                self.writing.insert(path, Instant::now());
                return;
            }
            Signal::Writing(_) => return,
            Signal::Changed(name) | Signal::Gone(name) if is_manifest(&name) => {
                let path = self.disk.dir.join(name);
                self.writing.remove(&path);
                self.pending.changed.insert(path);
            }
            // Not a manifest, but links may lead through it, as through `..data` in a mounted ConfigMap.
            Signal::Changed(_) | Signal::Gone(_) => self.pending.scan = true,
        }
        self.pending.patient |= !is_complete || !self.writing.is_empty();
        self.pending.note();
    }

    /// Whether the path leads to the folder that is watched. If it leads to another one, that is watched from now on; if
    /// it leads nowhere, all facts stay and the next check tries again.
    fn is_in_place(&mut self, watch: &mut Option<Watch>) -> bool {
        let found = watch::identity(&self.disk.dir);
        if let (Ok(found), Some(watch)) = (&found, &watch)
            && watch.identity == *found
        {
            return true;
        }
        *watch = None;
        self.pending = Pending::default();
        self.writing.clear();
        match found.and_then(|_| Watch::new(&self.disk.dir)) {
            Ok(again) => {
                *watch = Some(again);
                info!(folder = %self.disk.dir.display(), "following the manifest folder again");
                self.lost = None;
                self.pending.scan = true;
                self.pending.refill = true;
                self.pending.note();
            }
            Err(error) => self.lose(&error),
        }
        false
    }

    fn lose(&mut self, error: &io::Error) {
        let reason = error.to_string();
        if self.lost.as_ref() != Some(&reason) {
            warn!(
                folder = %self.disk.dir.display(), error = %reason,
                "cannot follow the manifest folder: what it said stays in force until it is back"
            );
            self.lost = Some(reason);
            self.publish();
        }
    }

    /// Reads what changed and sends the difference.
    fn take_in(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for path in &pending.changed {
            self.disk.refresh(path);
        }
        if pending.scan {
            match self.scan() {
                Ok(()) => self.lost = None,
                Err(error) => self.lose(&error),
            }
        }
        let settled = self.disk.folder.settle();
        settled.notices.iter().for_each(log);
        self.publish();
        if !settled.updates.is_empty() && self.sender.blocking_send(settled.updates).is_err() {
            debug!("nobody follows the manifest folder any more");
        }
    }

    fn scan(&mut self) -> io::Result<()> {
        // Who has not written for that long has forgotten to close the file.
        let (now, limit) = (Instant::now(), self.timing.scan);
        self.writing.retain(|_, latest| *latest + limit > now);
        self.next_scan = now + limit;
        let busy = self.writing.keys().cloned().collect();
        self.disk.scan(&busy)
    }

    fn publish(&self) {
        let mut summary = self.disk.folder.summary();
        summary.folder_error = self.lost.clone();
        self.status.set(summary);
    }
}

/// Tells the user.
pub(super) fn log(notice: &Notice) {
    let shown = |file: &Path| file.display().to_string();
    match notice {
        Notice::Broken(error) => warn!("{error}; what the file said before stays in force"),
        Notice::Fixed(file) => info!(file = shown(file), "the file can be used again"),
        Notice::LeftOut(file, problem) => warn!("{}: {problem}", file.display()),
        Notice::Duplicate(duplicate) => warn!("{duplicate}"),
        Notice::Ignored { kind } => debug!(kind, "objects of this kind are not read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.0.0.1}}\n")
    }

    /// The live tests cannot make the kernel's queue overflow while the follower reads it.
    #[test]
    fn after_lost_events_all_files_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
        let disk = Disk::new(dir.path().to_owned(), "node-a".into());
        let mut follower = Follower::new(disk, Status::default(), sender, Timing::default());
        std::fs::write(dir.path().join("a.yaml"), service("x")).unwrap();
        std::fs::write(dir.path().join("b.yaml"), service("y")).unwrap();
        follower.absorb(Signal::Writing("b.yaml".into()));
        assert!(follower.pending.due(&follower.timing).is_none());
        follower.absorb(Signal::Overflow);
        assert!(follower.pending.due(&follower.timing).is_some());
        follower.take_in();
        assert_eq!(receiver.try_recv().unwrap().len(), 2, "also the file whose end of writing was lost");
    }

    #[test]
    fn a_stream_of_changes_is_taken_in_before_it_ends() {
        let timing = Timing::default();
        let now = Instant::now();
        let mut pending = Pending { times: Some((now, now)), ..Pending::default() };
        assert_eq!(pending.due(&timing), Some(now + timing.complete_quiet));
        pending.patient = true;
        assert_eq!(pending.due(&timing), Some(now + timing.quiet));
        pending.times = Some((now, now + Duration::from_secs(60)));
        assert_eq!(pending.due(&timing), Some(now + timing.longest));
        pending.refill = true;
        assert_eq!(pending.due(&timing), Some(now + timing.refill_longest));
    }

    #[test]
    fn complete_files_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let quiet_after = |signals: &[Signal]| {
            let (sender, _receiver) = tokio::sync::mpsc::channel(4);
            let disk = Disk::new(dir.path().to_owned(), "node-a".into());
            let mut follower = Follower::new(disk, Status::default(), sender, Timing::default());
            signals.iter().cloned().for_each(|signal| follower.absorb(signal));
            let (_, latest) = follower.pending.times?;
            Some(follower.pending.due(&follower.timing)? - latest)
        };
        let Timing { quiet, complete_quiet, .. } = Timing::default();
        let (changed, gone) = (|name: &str| Signal::Changed(name.into()), |name: &str| Signal::Gone(name.into()));
        let writing = |name: &str| Signal::Writing(name.into());
        for (signals, expected) in [
            (vec![changed("a.yaml")], Some(complete_quiet)),
            (vec![writing("a.yaml"), changed("a.yaml")], Some(complete_quiet)),
            (vec![changed("a.yaml"), changed("b.yaml")], Some(complete_quiet)),
            (vec![writing("a.yaml")], None),
            (vec![writing("b.yaml"), changed("a.yaml")], Some(quiet)),
            (vec![gone("a.yaml"), changed("b.yaml")], Some(quiet)),
            // The swap of a mounted ConfigMap.
            (vec![changed("..data")], Some(quiet)),
        ] {
            assert_eq!(quiet_after(&signals), expected, "{signals:?}");
        }
    }

    #[test]
    fn a_loss_is_told_once() {
        let (sender, _receiver) = tokio::sync::mpsc::channel(4);
        let status = Status::default();
        let disk = Disk::new("/nowhere/at/all".into(), "node-a".into());
        let mut follower = Follower::new(disk, status.clone(), sender, Timing::default());
        assert!(!follower.is_in_place(&mut None));
        let first = status.get();
        assert_eq!(first.folder_error.as_deref(), Some("No such file or directory (os error 2)"));
        assert!(!follower.is_in_place(&mut None));
        assert!(std::sync::Arc::ptr_eq(&first, &status.get()), "the same loss is no news");
    }
}
