//! A real folder, followed.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc as Shared;
use std::time::{Duration, Instant};

use super::super::follow::Timing;
use super::super::watch::{Signal, Watch};
use super::super::{Config, Status, Summary, start_with};
use super::*;
use crate::source::Updates;

/// Long enough that nothing is missed on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Live {
    root: tempfile::TempDir,
    updates: Updates,
    status: Status,
}

impl Live {
    /// Follows a folder `m` that holds these files.
    fn start(files: &[(&str, &str)]) -> Live {
        Live::start_with(files, Timing::default())
    }

    fn start_with(files: &[(&str, &str)], timing: Timing) -> Live {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("m");
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let (updates, status) = start_with(Config { dir, node_name: "node-a".into() }, timing).unwrap();
        Live { root, updates, status }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("m").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The next batch.
    fn next(&mut self) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.updates.try_recv() {
                Ok(updates) => return services(&updates),
                Err(error) => assert!(Instant::now() < until, "no batch came: {error}"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The next batches, one after another, until together they say this.
    fn next_until(&mut self, mut expected: Vec<&str>) {
        while !expected.is_empty() {
            for text in self.next() {
                let place = expected.iter().position(|wanted| *wanted == text);
                expected.remove(place.unwrap_or_else(|| panic!("{text} came, expected {expected:?}")));
            }
        }
    }

    /// Nothing more is sent.
    fn quiet(&mut self) {
        std::thread::sleep(Duration::from_millis(300));
        assert!(self.updates.try_recv().is_err());
    }

    fn wait_for(&self, what: &str, fits: impl Fn(&Summary) -> bool) -> Shared<Summary> {
        let until = Instant::now() + PATIENCE;
        loop {
            let summary = self.status.get();
            if fits(&summary) {
                return summary;
            }
            assert!(Instant::now() < until, "{what} did not happen: {summary:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn the_first_batch_makes_every_kind_synced() {
    let mut live = Live::start(&[("a.yaml", &service("x", 1)), ("b.yaml", "kind: [\n")]);
    let updates = live.updates.blocking_recv().unwrap();
    let kinds: Vec<_> = updates
        .iter()
        .map(|update| match update {
            Update::Replace { kind, .. } => *kind,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, Kind::ALL);
    assert_eq!(services(&updates), ["=x:1"]);
    let summary = live.status.get();
    assert_eq!((summary.files, summary.objects, summary.errors.len()), (2, 1, 1));
    live.quiet();
}

#[test]
fn files_that_come_change_and_go() {
    let mut live = Live::start(&[("a.yaml", &service("x", 1))]);
    assert_eq!(live.next(), ["=x:1"]);
    live.write("a.yaml", &service("x", 2));
    assert_eq!(live.next(), ["+x:2"]);
    live.write(
        "b.json",
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"y"},"spec":{"clusterIP":"10.0.0.1"}}"#,
    );
    assert_eq!(live.next(), ["+y:0"]);
    // A rename over a file, as careful editors do it.
    live.write(".a.yaml.tmp", &service("x", 3));
    std::fs::rename(live.path(".a.yaml.tmp"), live.path("a.yaml")).unwrap();
    assert_eq!(live.next(), ["+x:3"]);
    std::fs::rename(live.path("b.json"), live.path("b.json.off")).unwrap();
    assert_eq!(live.next(), ["-y"]);
    std::fs::remove_file(live.path("a.yaml")).unwrap();
    assert_eq!(live.next(), ["-x"]);
    std::fs::hard_link(live.path("b.json.off"), live.path("c.json")).unwrap();
    assert_eq!(live.next(), ["+y:0"]);
    live.quiet();
}

#[test]
fn a_set_of_changes_is_one_batch() {
    let mut live = Live::start(&[("a.yaml", &service("x", 1)), ("b.yaml", &service("y", 1))]);
    assert_eq!(live.next(), ["=x:1", "=y:1"]);
    live.write("a.yaml", &service("x", 2));
    std::fs::remove_file(live.path("b.yaml")).unwrap();
    live.write("c.yaml", &service("z", 3));
    assert_eq!(live.next(), ["+x:2", "-y", "+z:3"]);
    live.quiet();
}

#[test]
fn a_file_is_not_read_while_it_is_written() {
    use std::io::Write;
    let mut live = Live::start(&[("a.yaml", &service("x", 1)), ("b.yaml", &service("y", 1))]);
    assert_eq!(live.next(), ["=x:1", "=y:1"]);
    let mut file = std::fs::File::create(live.path("a.yaml")).unwrap();
    file.write_all(b"apiVersion: v1\nkind: Ser").unwrap();
    // Other files are taken in meanwhile.
    live.write("b.yaml", &service("y", 2));
    assert_eq!(live.next(), ["+y:2"]);
    live.quiet();
    assert!(live.status.get().errors.is_empty());
    file.set_len(0).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file.write_all(service("x", 2).as_bytes()).unwrap();
    drop(file);
    assert_eq!(live.next(), ["+x:2"]);
}

#[test]
fn broken_then_fixed() {
    let mut live = Live::start(&[("a.yaml", &service("x", 1))]);
    assert_eq!(live.next(), ["=x:1"]);
    live.write("a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: eighty}]}\n");
    let summary = live.wait_for("the error", |summary| !summary.errors.is_empty());
    assert_eq!(summary.objects, 1, "the old object stays");
    let error = summary.errors.get(&live.path("a.yaml")).unwrap().to_string();
    assert!(
        error.ends_with(
            "a.yaml:4:23: spec.ports[0].port: expected a whole number, found the text \"eighty\" (Service x)"
        ),
        "{error}"
    );
    live.quiet();
    live.write("a.yaml", &service("x", 80));
    assert_eq!(live.next(), ["+x:80"]);
    live.wait_for("the end of the error", |summary| summary.errors.is_empty());
}

/// As the kubelet mounts a ConfigMap: `a.yaml -> ..data/a.yaml`, `..data -> ..1`, and `..data` is swapped.
#[test]
fn a_swap_of_the_folder_behind_links() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("m");
    for version in 1..=2 {
        let data = dir.join(format!("..{version}"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("a.yaml"), service("x", version)).unwrap();
        std::fs::write(data.join("b.yaml"), service("y", 1)).unwrap();
    }
    symlink("..1", dir.join("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        symlink(format!("..data/{name}"), dir.join(name)).unwrap();
    }
    let (updates, status) = start_with(Config { dir, node_name: "node-a".into() }, Timing::default()).unwrap();
    let mut live = Live { root, updates, status };
    assert_eq!(live.next(), ["=x:1", "=y:1"]);
    symlink("..2", live.path("..data_tmp")).unwrap();
    std::fs::rename(live.path("..data_tmp"), live.path("..data")).unwrap();
    assert_eq!(live.next(), ["+x:2"]);
    // A new key of the map, and one that goes.
    std::fs::create_dir(live.path("..3")).unwrap();
    std::fs::write(live.path("..3/a.yaml"), service("x", 2)).unwrap();
    std::fs::write(live.path("..3/c.yaml"), service("z", 1)).unwrap();
    symlink("..3", live.path("..data_tmp")).unwrap();
    std::fs::rename(live.path("..data_tmp"), live.path("..data")).unwrap();
    symlink("..data/c.yaml", live.path("c.yaml")).unwrap();
    std::fs::remove_file(live.path("b.yaml")).unwrap();
    live.next_until(vec!["+z:1", "-y"]);
    live.quiet();
}

#[test]
fn a_folder_that_goes_and_comes_back() {
    let mut live = Live::start(&[("a.yaml", &service("x", 1)), ("b.yaml", &service("y", 1))]);
    assert_eq!(live.next(), ["=x:1", "=y:1"]);
    let dir = live.path("");
    std::fs::remove_dir_all(&dir).unwrap();
    live.wait_for("the loss", |summary| summary.folder_error.is_some());
    assert_eq!(live.status.get().objects, 2, "facts stay");
    live.quiet();
    std::fs::create_dir(&dir).unwrap();
    live.write("a.yaml", &service("x", 2));
    live.write("b.yaml", &service("y", 1));
    assert_eq!(live.next(), ["+x:2"], "the folder is filled before it is read");
    live.wait_for("the return", |summary| summary.folder_error.is_none());
    live.write("b.yaml", &service("y", 2));
    assert_eq!(live.next(), ["+y:2"], "and followed again");
}

#[test]
fn a_folder_that_is_replaced_by_another() {
    let mut live = Live::start(&[("a.yaml", &service("x", 1))]);
    assert_eq!(live.next(), ["=x:1"]);
    let (old, new) = (live.path(""), live.root.path().join("new"));
    std::fs::create_dir(&new).unwrap();
    std::fs::write(new.join("a.yaml"), service("x", 2)).unwrap();
    std::fs::rename(&old, live.root.path().join("old")).unwrap();
    std::fs::rename(&new, &old).unwrap();
    assert_eq!(live.next(), ["+x:2"]);
    live.write("a.yaml", &service("x", 3));
    assert_eq!(live.next(), ["+x:3"]);
}

#[test]
fn a_link_as_folder_that_is_turned_to_another() {
    let root = tempfile::tempdir().unwrap();
    for version in 1..=2 {
        let dir = root.path().join(format!("v{version}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("a.yaml"), service("x", version)).unwrap();
    }
    symlink("v1", root.path().join("m")).unwrap();
    let config = Config { dir: root.path().join("m"), node_name: "node-a".into() };
    let (updates, status) = start_with(config, Timing::default()).unwrap();
    let mut live = Live { root, updates, status };
    assert_eq!(live.next(), ["=x:1"]);
    symlink("v2", live.root.path().join("new")).unwrap();
    std::fs::rename(live.root.path().join("new"), live.root.path().join("m")).unwrap();
    assert_eq!(live.next(), ["+x:2"]);
}

/// What inotify does not tell is found by looking: here a file outside of the folder, behind a link.
#[test]
fn a_change_behind_a_link_is_found_in_time() {
    let timing = Timing { scan: Duration::from_millis(500), check: Duration::from_millis(100), ..Timing::default() };
    let mut live = Live::start_with(&[], timing);
    assert_eq!(live.next(), [""; 0]);
    let target = live.root.path().join("elsewhere");
    std::fs::write(&target, service("x", 1)).unwrap();
    symlink(&target, live.path("a.yaml")).unwrap();
    assert_eq!(live.next(), ["+x:1"]);
    std::fs::write(&target, service("x", 2)).unwrap();
    assert_eq!(live.next(), ["+x:2"]);
    std::fs::remove_file(&target).unwrap();
    live.wait_for("the error", |summary| summary.errors.len() == 1);
    live.quiet();
}

#[test]
fn an_overflow_of_the_queue_is_told() {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(dir.path()).unwrap();
    let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
    std::fs::write(&a, "").unwrap();
    for _ in 0..limit / 4 + 2 {
        std::fs::rename(&a, &b).unwrap();
        std::fs::rename(&b, &a).unwrap();
    }
    let signals = watch.wait(Duration::ZERO).unwrap();
    assert_eq!(signals.last(), Some(&Signal::Overflow));
}

#[test]
fn the_thread_ends_with_its_receiver() {
    let live = Live::start(&[("a.yaml", &service("x", 1))]);
    let watched = Shared::downgrade(&live.status.0);
    drop(live);
    let until = Instant::now() + PATIENCE;
    while watched.upgrade().is_some() {
        assert!(Instant::now() < until, "the thread still holds its status");
        std::thread::sleep(Duration::from_millis(10));
    }
}
