//! The cases in machines: two side by side where the host has room for them, whose output is put together case by case.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::ChildStdout;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use super::arguments::Arguments;
use super::machine::{Image, Machine, NoMachine, patience};
use super::runner::Case;
use super::shards::Shard;
use super::tally::{Tally, is_over};

/// How many machines, if not as many as the host has room for.
const NUMBER: &str = "WEIR_MACHINES";

/// More than two would wait for each other on most hosts.
const MOST: usize = 2;

/// What a machine may need of the host: its memory, and what QEMU makes of its programs.
const MEMORY_KIB: u64 = 3 << 20;

/// What a machine has printed.
enum Heard {
    /// A case is over: the line that tells it, and what was printed before.
    Over { line: String, printed: String },
    /// All that there is; what was printed behind the last case.
    End { machine: usize, printed: String },
}

/// Runs these cases in machines.
///
/// # Errors
/// No machine can be had on this host. One that was had and did not end well is a failure, not an error.
pub fn run(chosen: &[&Case], given: &[String], arguments: &Arguments, tally: &mut Tally) -> Result<(), NoMachine> {
    let of = number(chosen.len(), arguments);
    let image = Image::pack(given)?;
    let start = Instant::now();
    let boot = |number| image.boot(Shard { number, of }).expect("start qemu-system-x86_64");
    let mut machines: Vec<Machine> = (0..of).map(boot).collect();
    let (sender, heard) = mpsc::channel();
    for (number, machine) in machines.iter_mut().enumerate() {
        let (output, sender, nocapture) = (machine.output(), sender.clone(), arguments.nocapture);
        thread::spawn(move || listen(number, output, nocapture, &sender));
    }
    drop(sender);

    let mut rests = vec![String::new(); of];
    let mut over = BTreeSet::new();
    loop {
        match heard.recv_timeout(patience().saturating_sub(start.elapsed())) {
            Ok(Heard::Over { line, printed }) => {
                let Some((name, passed)) = is_over(&line) else { continue };
                println!("{line}");
                tally.count(name, (!passed).then_some(printed));
                over.insert(name.to_owned());
            }
            Ok(Heard::End { machine, printed }) => rests[machine] = printed,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                // What they print ends then. This is no wait without end: there is nobody left to print.
                eprintln!("the machines have had their {} s", patience().as_secs());
                machines.iter_mut().for_each(Machine::kill);
                heard.iter().for_each(drop);
                break;
            }
        }
    }

    let mut skipped = BTreeSet::new();
    for (number, (machine, printed)) in machines.into_iter().zip(rests).enumerate() {
        let ended = machine.end();
        skipped.extend(ended.skipped);
        let failure = ended.failure.unwrap_or_default();
        for (name, _) in (Shard { number, of }).cases(chosen).into_iter().filter(|(name, _)| !over.contains(name)) {
            println!("test {name} ... FAILED (not over)");
            tally.count(name, Some(format!("{printed}{name}: not over when the machine ended\n{failure}")));
        }
    }
    skipped.iter().for_each(|what| weir::lab::skipped(what));
    println!("{of} machines were up for {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// How many machines the host has room for.
fn number(cases: usize, arguments: &Arguments) -> usize {
    if arguments.nocapture || cases < 2 {
        return 1;
    }
    if let Some(number) = std::env::var(NUMBER).ok().and_then(|text| text.parse().ok()) {
        return usize::max(number, 1).min(cases);
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let memory = available_kib().map_or(1, |available| available / MEMORY_KIB);
    MOST.min(processors).min(usize::try_from(memory).unwrap_or(MOST)).max(1)
}

/// Memory that the host can give without swapping (`MemAvailable`).
fn available_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Reads what a machine prints, and cuts it where a case is over. With `nocapture` it is printed as it comes.
fn listen(machine: usize, output: ChildStdout, nocapture: bool, heard: &Sender<Heard>) {
    let mut lines = BufReader::new(output);
    let mut printed = String::new();
    let mut bytes = Vec::new();
    // A pipe that breaks is as good as its end.
    while matches!(lines.read_until(b'\n', &mut bytes), Ok(1..)) {
        let line = String::from_utf8_lossy(&bytes).into_owned();
        bytes.clear();
        if is_over(line.trim_end()).is_some() {
            let line = line.trim_end().to_owned();
            // Nobody listens when the program is about to end.
            let _ = heard.send(Heard::Over { line, printed: std::mem::take(&mut printed) });
        } else if nocapture {
            print!("{line}");
        } else {
            printed.push_str(&line);
        }
    }
    let _ = heard.send(Heard::End { machine, printed });
}
