//! Figures of this process, as the kernel tells them (`man 5 proc`).

use std::fs;
use std::time::{Duration, SystemTime};

use super::family::{Description, Family, Kind};

const CPU: Description =
    Description::plain("process_cpu_seconds_total", Kind::Counter, "Total user and system CPU time spent in seconds.");
const MAX_FDS: Description =
    Description::plain("process_max_fds", Kind::Gauge, "Maximum number of open file descriptors.");
const OPEN_FDS: Description = Description::plain("process_open_fds", Kind::Gauge, "Number of open file descriptors.");
const RESIDENT: Description =
    Description::plain("process_resident_memory_bytes", Kind::Gauge, "Resident memory size in bytes.");
pub(super) const START: Description = Description::plain(
    "process_start_time_seconds",
    Kind::Gauge,
    "Start time of the process since unix epoch in seconds.",
);
const VIRTUAL: Description =
    Description::plain("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory size in bytes.");
const VIRTUAL_MAX: Description = Description::plain(
    "process_virtual_memory_max_bytes",
    Kind::Gauge,
    "Maximum amount of virtual memory available in bytes.",
);

/// `USER_HZ`: 100 on every architecture that Linux still runs on.
const TICKS: f64 = 100.0;

/// Those figures that can be read now.
pub fn families() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as u64);
    let figures = [
        (CPU, cpu_seconds(&stat)),
        (MAX_FDS, limit(&limits, "Max open files")),
        (OPEN_FDS, open.map(|open| open as f64)),
        (RESIDENT, kib(&status, "VmRSS:")),
        (START, start_time()),
        (VIRTUAL, kib(&status, "VmSize:")),
        (VIRTUAL_MAX, limit(&limits, "Max address space")),
    ];
    figures.into_iter().filter_map(|(description, figure)| Some(description.alone(figure?))).collect()
}

/// When this process started, in seconds since 1970.
pub fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + field::<f64>(&stat, 22)? / TICKS)
}

/// The same as a time.
pub fn started() -> SystemTime {
    let seconds = start_time().filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    seconds.map_or_else(SystemTime::now, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field::<f64>(stat, 14)? + field::<f64>(stat, 15)?) / TICKS)
}

/// A field of `/proc/self/stat`, by the number that the manual gives it. The second is a name in parentheses, which may
/// hold anything.
fn field<T: std::str::FromStr>(stat: &str, number: usize) -> Option<T> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// The soft limit; without one as much as 64 bits can say, as client libraries have it.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let value = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if value == "unlimited" { Some(u64::MAX as f64) } else { value.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::metrics::family::Value;

    #[test]
    fn figures_are_those_of_this_process() {
        let figures: Vec<(&str, f64)> = families()
            .iter()
            .map(|family| match family.samples[0].value {
                Value::Number(number) => (family.description.name, number),
                Value::Histogram(_) => panic!("no histogram is told of a process"),
            })
            .collect();
        assert_eq!(figures.len(), 7);
        let of = |name: &str| figures.iter().find(|(found, _)| *found == name).unwrap().1;
        assert!((1e6..1e11).contains(&of("process_resident_memory_bytes")));
        assert!(of("process_virtual_memory_bytes") >= of("process_resident_memory_bytes"));
        assert!((3.0..1e5).contains(&of("process_open_fds")) && of("process_max_fds") >= of("process_open_fds"));
        let age = started().elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(3600), "{age:?}");
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_matter() {
        let stat = "4711 (a) b) (c) S 1 4711 4711 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 3 0 1234 99 88";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(field::<u64>(stat, 22), Some(1234));
        assert_eq!(cpu_seconds("rubbish"), None);
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n\
                      Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(limit(limits, "Max address space"), Some(18_446_744_073_709_551_615.0));
    }
}
