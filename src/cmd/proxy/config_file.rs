//! The configuration file, followed: whatever way it is changed, its new content is told once it is complete.
//!
//! kube-proxy watches the inode that the path led to at its start, so that it never sees the way a ConfigMap changes (a
//! link is swapped) and exits at the way others do (contract 1.8). Here events of the folder only say when to look, and a
//! look every few seconds finds what no event told: what counts is what the path reads as.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use inotify::{Inotify, WatchMask};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use tokio::sync::mpsc;

/// Without events the file is read this often.
const LOOK: Duration = Duration::from_secs(5);
/// A content that stays the same for so long is complete.
const SETTLED: Duration = Duration::from_millis(150);
/// A file that is written without an end is told of all the same, after so many looks.
const LOOKS: usize = 40;
/// What is longer is no configuration, but is told of as far as it goes: it will be refused by name.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What the path reads as; `None` while it cannot be read.
type Content = Option<Vec<u8>>;

/// Follows the file until the receiver is dropped. Each message stands for a new content, which may be bad; that the file
/// is gone is no news, since it may be on its way.
///
/// # Errors
/// No thread can be started.
pub fn follow(path: &Path) -> io::Result<mpsc::Receiver<()>> {
    // One that waits is enough: who reads it reads the newest content.
    let (sender, changes) = mpsc::channel(1);
    let mut follower = Follower { path: path.to_owned(), folder: None, told: read(path) };
    // From here on nothing is missed.
    follower.watch();
    thread::Builder::new().name("weir-config".into()).spawn(move || {
        while !sender.is_closed() {
            follower.wait();
            if follower.has_changed() {
                // Full: the one that waits stands for this one too.
                let _ = sender.try_send(());
            }
        }
    })?;
    Ok(changes)
}

struct Follower {
    path: PathBuf,
    /// Events of the folder that the path names; without it there are only looks.
    folder: Option<Inotify>,
    told: Content,
}

impl Follower {
    fn watch(&mut self) {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MODIFY
            | WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        self.folder = Inotify::init().and_then(|inotify| inotify.watches().add(folder, mask).map(|_| inotify)).ok();
    }

    /// Until something happens in the folder, or it is time to look.
    fn wait(&mut self) {
        let Some(inotify) = &mut self.folder else {
            thread::sleep(LOOK);
            self.watch();
            return;
        };
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) if drain(inotify) => {}
            // The folder is another one now.
            Ok(_) | Err(_) => self.watch(),
        }
    }

    /// Whether there is a new content, once nobody writes it any more.
    fn has_changed(&mut self) -> bool {
        let mut content = read(&self.path);
        if content.is_none() || content == self.told {
            return false;
        }
        for _ in 0..LOOKS {
            thread::sleep(SETTLED);
            let again = read(&self.path);
            if again == content {
                break;
            }
            content = again;
        }
        let is_new = content.is_some() && content != self.told;
        if is_new {
            self.told = content;
        }
        is_new
    }
}

/// Takes all events; false if the watch is over.
fn drain(inotify: &mut Inotify) -> bool {
    let mut buffer = [0; 4096];
    let mut is_there = true;
    loop {
        match inotify.read_events(&mut buffer) {
            Ok(events) => {
                for event in events {
                    let over = inotify::EventMask::IGNORED
                        | inotify::EventMask::DELETE_SELF
                        | inotify::EventMask::MOVE_SELF
                        | inotify::EventMask::UNMOUNT;
                    is_there &= !event.mask.intersects(over);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return is_there && error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

fn read(path: &Path) -> Content {
    use std::io::Read;
    let mut content = Vec::new();
    std::fs::File::open(path).ok()?.take(LONGEST).read_to_end(&mut content).ok()?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Instant;

    /// Whether a change is told within a few seconds; at once if nothing else is said.
    async fn is_told(changes: &mut mpsc::Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_secs(4), changes.recv()).await.is_ok_and(|told| told.is_some())
    }

    async fn is_quiet(changes: &mut mpsc::Receiver<()>) -> bool {
        tokio::time::timeout(Duration::from_millis(700), changes.recv()).await.is_err()
    }

    #[tokio::test]
    async fn written_in_place_and_renamed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.conf");
        fs::write(&path, "a").unwrap();
        let mut changes = follow(&path).unwrap();
        fs::write(&path, "b").unwrap();
        assert!(is_told(&mut changes).await);
        fs::write(dir.path().join("config.new"), "c").unwrap();
        fs::rename(dir.path().join("config.new"), &path).unwrap();
        assert!(is_told(&mut changes).await);
        fs::write(&path, "c").unwrap();
        assert!(is_quiet(&mut changes).await, "the same content is no news");
    }

    /// What the kubelet does to a volume of a ConfigMap: `config.conf -> ..data/config.conf`, `..data` is swapped.
    #[tokio::test]
    async fn q41_a_config_map_is_swapped() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, content) in [("..1", "a"), ("..2", "b"), ("..3", "c")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("config.conf"), content).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/config.conf", at("config.conf")).unwrap();
        let mut changes = follow(&at("config.conf")).unwrap();
        for version in ["..2", "..3"] {
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            assert!(is_told(&mut changes).await, "{version}");
        }
    }

    #[tokio::test]
    async fn gone_is_no_news_and_back_with_another_content_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.conf");
        fs::write(&path, "a").unwrap();
        let mut changes = follow(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(is_quiet(&mut changes).await);
        fs::write(&path, "b").unwrap();
        assert!(is_told(&mut changes).await);
    }

    #[tokio::test]
    async fn half_a_file_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.conf");
        fs::write(&path, "a").unwrap();
        let mut changes = follow(&path).unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                for length in 1..12 {
                    fs::write(&path, "b".repeat(length)).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        let began = Instant::now();
        assert!(is_told(&mut changes).await);
        assert!(began.elapsed() >= Duration::from_millis(500), "told while it was being written");
        writer.join().unwrap();
        assert!(is_quiet(&mut changes).await);
    }

    #[tokio::test]
    async fn without_an_event_a_look_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("real"), "a").unwrap();
        symlink(elsewhere.path().join("real"), dir.path().join("config.conf")).unwrap();
        let mut changes = follow(&dir.path().join("config.conf")).unwrap();
        fs::write(elsewhere.path().join("real"), "b").unwrap();
        let told = tokio::time::timeout(LOOK * 2, changes.recv()).await;
        assert!(told.is_ok_and(|told| told.is_some()));
    }
}
