//! What a process and all that it started use, as `/proc` tells it (proc(5)).

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// CPU seconds, in user space and in the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub user: f64,
    pub system: f64,
}

impl Cpu {
    pub fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu { user: self.user - before.user, system: self.system - before.system }
    }
}

/// Of the processes that run, and of those that they waited for.
pub fn cpu(root: u32) -> Cpu {
    let mut sum = Cpu::default();
    for pid in tree(root) {
        // Counted from the state as 0: utime 11, stime 12, and those of waited-for children 13 and 14; in ticks of
        // USER_HZ, which is 100.
        let fields = stat(pid);
        let seconds = |i: usize| fields.get(i).copied().unwrap_or_default() / 100.0;
        sum.user += seconds(11) + seconds(13);
        sum.system += seconds(12) + seconds(14);
    }
    sum
}

/// MiB that the processes have in memory now.
pub fn resident(root: u32) -> f64 {
    tree(root).into_iter().map(|pid| status_mib(pid, "VmRSS:")).sum()
}

/// MiB that the first process had in memory at most.
pub fn peak(root: u32) -> f64 {
    status_mib(root, "VmHWM:")
}

/// Waits until the processes have been idle for a while.
pub fn wait_until_idle(root: u32, patience: Duration) {
    const STEP: Duration = Duration::from_millis(100);
    let (mut before, mut quiet) = (cpu(root).total(), 0);
    for _ in 0..patience.as_millis() / STEP.as_millis() {
        std::thread::sleep(STEP);
        let now = cpu(root).total();
        quiet = if now - before < 0.005 { quiet + 1 } else { 0 };
        before = now;
        if quiet == 3 {
            return;
        }
    }
}

fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    found
}

fn stat(pid: u32) -> Vec<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|field| field.parse().unwrap_or(0.0)).collect()
}

fn status_mib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
}
