//! inotify: what happens to the files of one folder.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchMask};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// A file is complete: it was closed after writing, or renamed to this name.
    Changed(OsString),
    /// A file is gone, or has another name now.
    Gone(OsString),
    /// Somebody is writing a file; [`Signal::Changed`] follows when it is closed.
    Writing(OsString),
    /// Events were lost: anything may have changed.
    Overflow,
    /// The folder is not where it was.
    Moved,
    /// The permissions of the folder itself are others now.
    Permissions,
}

/// Which folder a path leads to: device and inode.
pub(super) type Identity = (u64, u64);

/// The identity of the folder at a path.
pub(super) fn identity(dir: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(dir)?;
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// A watch on one folder.
pub(super) struct Watch {
    dir: PathBuf,
    inotify: Inotify,
    /// The folder that is watched; the path may lead to another one by now.
    pub identity: Identity,
}

impl Watch {
    /// Starts to watch: events from now on are kept until they are read.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::ATTRIB
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let inotify = Inotify::init()?;
        let before = identity(dir)?;
        inotify.watches().add(dir, mask)?;
        if identity(dir)? != before {
            return Err(io::Error::other("it is being replaced"));
        }
        Ok(Watch { dir: dir.to_owned(), inotify, identity: before })
    }

    /// Waits for events until `timeout` is over and returns all there are.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Vec<Signal>> {
        // Rounded up, so that what is due then is due.
        let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => Ok(Vec::new()),
            Ok(_) => self.drain(),
            Err(errno) => Err(errno.into()),
        }
    }

    /// All events that there are.
    fn drain(&mut self) -> io::Result<Vec<Signal>> {
        let mut buffer = [0; 16 * 1024];
        let mut signals = Vec::new();
        loop {
            match self.inotify.read_events(&mut buffer) {
                Ok(events) => signals.extend(events.filter_map(|event| signal(&self.dir, event.mask, event.name))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(signals),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn signal(dir: &Path, mask: EventMask, name: Option<&OsStr>) -> Option<Signal> {
    if mask.contains(EventMask::Q_OVERFLOW) {
        return Some(Signal::Overflow);
    }
    let Some(name) = name else {
        let lost = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
        if mask.contains(EventMask::ATTRIB) {
            return Some(Signal::Permissions);
        }
        return mask.intersects(lost).then_some(Signal::Moved);
    };
    let name_owned = name.to_owned();
    if mask.contains(EventMask::MODIFY) {
        return Some(Signal::Writing(name_owned));
    }
    if mask.contains(EventMask::CREATE) && is_about_to_be_written(&dir.join(name)) {
        return Some(Signal::Writing(name_owned));
    }
    if mask.intersects(EventMask::DELETE | EventMask::MOVED_FROM) {
        return Some(Signal::Gone(name_owned));
    }
    Some(Signal::Changed(name_owned))
}

/// Whether a file that was just created is still open for writing, as far as one can tell. Links appear complete.
fn is_about_to_be_written(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}
