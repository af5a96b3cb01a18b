//! Names, sizes and kinds of files; one-shot reads.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::disk::Disk;
use super::super::read::{MAX_FILE, Outcome, is_manifest, read};
use super::super::{Config, load, start};
use super::*;

#[test]
fn names_that_are_read() {
    for name in ["a.yaml", "a.yml", "a.json", "a.b.yaml", "..yaml.yaml"] {
        assert_eq!(is_manifest(OsStr::new(name)), !name.starts_with('.'), "{name}");
    }
    for name in [
        ".yaml",
        ".a.yaml",
        "a.yaml~",
        "#a.yaml#",
        ".#a.yaml",
        "a.yaml.swp",
        ".a.yaml.swp",
        "a.YAML",
        "yaml",
        "4913",
        "a.txt",
        "..data",
    ] {
        assert!(!is_manifest(OsStr::new(name)), "{name}");
    }
}

fn config(dir: &Path) -> Config {
    Config { dir: dir.to_owned(), node_name: "node-a".into() }
}

#[test]
fn load_reads_what_is_there_and_reports_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.yaml"), service("x", 1)).unwrap();
    std::fs::write(path("b.json"), "{").unwrap();
    std::fs::write(path("c.yml"), service("x", 2) + "---\n" + &service("y", 0)).unwrap();
    std::fs::write(path(".hidden.yaml"), service("no", 1)).unwrap();
    std::fs::write(path("d.yaml~"), service("no", 1)).unwrap();
    std::fs::create_dir(path("sub")).unwrap();
    std::fs::write(path("sub/e.yaml"), service("no", 1)).unwrap();
    std::fs::create_dir(path("folder.yaml")).unwrap();
    symlink("a.yaml", path("nowhere.txt")).unwrap();
    symlink("nothing", path("z.yaml")).unwrap();
    nix::unistd::mkfifo(&path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let loaded = load(config(dir.path())).unwrap();
    assert_eq!(services(&loaded.updates), ["=x:1", "=y:0"]);
    let errors: Vec<_> = loaded.errors.iter().map(ToString::to_string).collect();
    let at = |name: &str| path(name).display().to_string();
    assert_eq!(
        errors,
        [
            format!("{}:1:1: not valid JSON: EOF while parsing an object", at("b.json")),
            format!("{}: expected a regular file, found a pipe, socket or device", at("pipe.yaml")),
            format!("{}: cannot read it: the symbolic link leads to nothing, which does not exist", at("z.yaml")),
        ]
    );
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(*loaded.problems[0].0, *path("c.yml"));
    assert_eq!(loaded.duplicates.len(), 1);
    assert_eq!(loaded.summary.files, 5);
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let text = format!(
        "cannot read the manifest folder {}: No such file or directory (os error 2); name a folder that exists and can be read",
        missing.display()
    );
    assert_eq!(load(config(&missing)).unwrap_err().to_string(), text);
    assert_eq!(start(config(&missing)).err().map(|error| error.to_string()), Some(text));
    std::fs::write(&missing, "").unwrap();
    assert!(start(config(&missing)).err().unwrap().to_string().contains("not a directory"));
}

#[test]
fn files_that_are_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    std::fs::File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
    let loaded = load(config(dir.path())).unwrap();
    assert_eq!(
        loaded.errors[0].to_string(),
        format!("{}: larger than 67108864 bytes, which is the most that is read: split the file", path.display())
    );
    // Also if the size is only known after reading.
    assert!(
        matches!(read(Path::new("/proc/self/status"), 10), Outcome::Failed(text) if text.starts_with("larger than 10"))
    );
    std::fs::write(&path, "0123456789").unwrap();
    assert!(matches!(read(&path, 10), Outcome::Bytes(bytes, None) if bytes.len() == 10), "just written: no stamp");
}

#[test]
fn a_scan_reads_only_what_looks_different() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, service("x", 1)).unwrap();
    let mut disk = Disk::new(dir.path().to_owned(), "node-a".into());
    let idle = BTreeSet::new();
    disk.scan(&idle).unwrap();
    assert_eq!(services(&disk.folder.settle().updates), ["+x:1"]);
    // Just written, so the stamp is not trusted yet: this change is found although nothing tells it but the content.
    std::fs::write(&path, service("x", 2)).unwrap();
    disk.scan(&idle).unwrap();
    assert_eq!(services(&disk.folder.settle().updates), ["+x:2"]);
    std::fs::write(&path, service("x", 3)).unwrap();
    disk.scan(&BTreeSet::from([path.clone()])).unwrap();
    assert_eq!(disk.folder.settle().updates, [], "somebody is writing it");
    disk.scan(&idle).unwrap();
    assert_eq!(services(&disk.folder.settle().updates), ["+x:3"]);
    std::fs::remove_file(&path).unwrap();
    disk.scan(&idle).unwrap();
    assert_eq!(services(&disk.folder.settle().updates), ["-x"]);
}

#[test]
fn a_file_that_may_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.yaml");
    std::fs::write(&path, service("x", 1)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)).unwrap();
    let text = match read(&path, MAX_FILE) {
        // Permissions do not hold root back; a path that leads through a file fails for everybody.
        Outcome::Bytes(..) => match read(&path.join("b.yaml"), MAX_FILE) {
            Outcome::Failed(text) => text,
            other => panic!("{other:?}"),
        },
        Outcome::Failed(text) => text,
        Outcome::Absent => panic!("it is there"),
    };
    assert!(text.starts_with("cannot read it: "), "{text}");
}
