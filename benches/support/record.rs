//! Figures that are kept: one JSON line for each measurement, with date, machine and load.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::cluster::Size;

/// `target/bench-node.jsonl`.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-node.jsonl")
}

/// Appends a measurement to the file.
pub fn append(proxy: &str, size: Size, measure: &str, figures: &Map<String, Value>) {
    let line = json!({
        "date": date(),
        "machine": machine(),
        "kernel": first_line("/proc/sys/kernel/osrelease"),
        "load": load(),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "proxy": proxy,
        "services": size.services,
        "endpoints": size.endpoints,
        "big": size.big,
        "measure": measure,
        "figures": figures,
    });
    let open = || -> std::io::Result<File> {
        fs::create_dir_all(path().parent().unwrap_or(Path::new(".")))?;
        OpenOptions::new().create(true).append(true).open(path())
    };
    open().and_then(|mut file| writeln!(file, "{line}")).expect("the file of figures");
}

/// Cores and model.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    format!("{cores} cores, {}", model.unwrap_or("unknown model"))
}

/// Of the last minute.
pub fn load() -> f64 {
    first_line("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// UTC.
pub fn date() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
