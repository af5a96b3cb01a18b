//! One proxy at one size: what is measured, in order.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Map, Value};
use weir::lab::HostChild;

use crate::bed::{self, Bed};
use crate::cluster::{self, Size};
use crate::measure::median_p99;
use crate::proxies::{self, Proxy};
use crate::{bare, drift, probe, record, usage};

/// What is looked at again after the start.
const REST: Duration = Duration::from_secs(15);
/// Services that stand for all of them where asking all would take longer than what is measured.
const SAMPLE: u32 = 50;
const CONNECTS: usize = 2000;

/// A proxy at a size.
pub struct Run<'a> {
    pub proxy: &'a Proxy,
    pub size: Size,
    pub changes: u32,
    pub burst: u32,
    /// Between lone changes.
    pub gap: Duration,
    pub patience: Duration,
}

/// What came of it: figures by name. They are named with their unit.
pub struct Outcome {
    pub proxy: String,
    pub size: Size,
    pub figures: Map<String, Value>,
    /// Why there are none, or no more.
    pub failure: Option<String>,
}

type Figures = Vec<(&'static str, f64)>;
/// Why a proxy cannot be measured any further.
type Failure = String;

impl Run<'_> {
    pub fn measure(&self, wanted: &[String]) -> Outcome {
        eprintln!("== {} at {} (load {})", self.proxy.name, self.size, record::load());
        let mut outcome = Outcome {
            proxy: self.proxy.name.clone(),
            size: self.size,
            figures: Map::from_iter([("load".to_owned(), record::load().into())]),
            failure: None,
        };
        outcome.failure = self.steps(wanted, &mut outcome.figures).err();
        if let Some(why) = &outcome.failure {
            eprintln!("   {why}");
        }
        outcome
    }

    fn steps(&self, wanted: &[String], all: &mut Map<String, Value>) -> Result<(), Failure> {
        let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
        let mut keep = |measure: &str, figures: Figures| {
            let figures: Map<String, Value> =
                figures.into_iter().map(|(name, value)| (name.to_owned(), rounded(value))).collect();
            eprintln!("   {measure}: {}", Value::from(figures.clone()));
            record::append(&self.proxy.name, self.size, measure, &figures);
            all.extend(figures);
        };
        let bed = Bed::new(self.size);
        bed::forget_connections_soon(bed.node());
        if wants("connect") {
            keep("connect without rules", connects_without_rules(&bed));
        }
        let begin = Instant::now();
        let child =
            self.proxy.start(bed.node(), &bed.server.url()).map_err(|error| format!("not available: {error}"))?;
        let child = Mutex::new(child);
        let Some(started) = self.start(&bed, &child, begin)? else {
            keep("start", vec![("not_serving_after_s", self.patience.as_secs_f64())]);
            return Err(format!("not serving after {} s: {}", self.patience.as_secs(), proxies::last_words()));
        };
        keep("start", started);
        let pid = child.lock().expect("a lock").id();
        if wants("rest") {
            keep("rest", rest(pid));
        }
        if wants("change") {
            usage::wait_until_idle(pid, self.patience);
            keep("change", self.lone_changes(&bed, pid)?);
        }
        if wants("burst") {
            usage::wait_until_idle(pid, self.patience);
            keep("burst", self.burst(&bed, pid)?);
        }
        if wants("connect") {
            usage::wait_until_idle(pid, self.patience);
            keep("connect", self.connects(&bed));
        }
        if wants("drift")
            && let Some(tables) = self.proxy.tables
        {
            usage::wait_until_idle(pid, self.patience);
            keep("drift", drift::measure(&bed, tables, self.patience)?);
        }
        self.stop(child.into_inner().expect("a lock"));
        let Some(tables) = self.proxy.tables else { return Ok(()) };
        if wants("rules") {
            keep("rules", rules(&bed, tables)?);
        }
        if wants("bare") {
            let took = bare::one_rule(bed.node(), tables).map_err(|error| format!("bare change: {error}"))?;
            keep("bare", vec![("bare_ms", milliseconds(took))]);
        }
        Ok(())
    }

    /// From the start of the process to the first connections; nothing if they never came.
    fn start(&self, bed: &Bed, child: &Mutex<HostChild>, begin: Instant) -> Result<Option<Figures>, Failure> {
        let step = (self.size.services / SAMPLE).max(1) as usize;
        let mut targets: Vec<SocketAddr> =
            vec![(cluster::DNS, 53).into(), (cluster::KUBERNETES, 443).into(), bed::service(self.size.services - 1)];
        targets.extend((0..self.size.services).step_by(step).map(bed::service));
        let alive = || child.lock().expect("a lock").try_wait().is_ok_and(|ended| ended.is_none());
        let pid = child.lock().expect("a lock").id();
        // Those that come first are watched on their own: what was used until then is read at that moment.
        let probing = || {
            std::thread::scope(|scope| {
                let first = scope.spawn(|| {
                    probe::until_all(&targets[..2], begin, self.patience, &alive);
                    usage::cpu(pid)
                });
                let answered = probe::until_all(&targets, begin, self.patience, &alive);
                (answered, first.join().expect("a thread"))
            })
        };
        let (answered, first) = bed.client().run(probing).expect("the client");
        if !alive() {
            return Err(format!("not available: {}", proxies::last_words()));
        }
        let Some(answered) = answered.into_iter().collect::<Option<Vec<Duration>>>() else { return Ok(None) };
        let [dns, kubernetes, last, ..] = answered[..] else { unreachable!("there are three at least") };
        let all = answered.iter().max().copied().unwrap_or_default();
        let used = usage::cpu(pid);
        Ok(Some(vec![
            ("start_dns_s", dns.as_secs_f64()),
            ("start_kubernetes_s", kubernetes.as_secs_f64()),
            ("start_last_s", last.as_secs_f64()),
            ("start_all_s", all.as_secs_f64()),
            ("start_first_cpu_s", first.total()),
            ("start_user_s", used.user),
            ("start_system_s", used.system),
            ("start_resident_mib", usage::resident(pid)),
        ]))
    }

    /// Changes one after the other, each a while after the last, on services all over the cluster.
    fn lone_changes(&self, bed: &Bed, pid: u32) -> Result<Figures, Failure> {
        let before = usage::cpu(pid);
        let changes = || {
            let mut samples = Vec::new();
            for n in 0..self.changes {
                std::thread::sleep(self.gap);
                let i = scattered(n) % self.size.services;
                let endpoint = bed.change(i);
                samples.push(probe::until(bed::service(i), endpoint, Instant::now(), self.patience)?);
            }
            Some(samples)
        };
        let samples = bed.client().run(changes).expect("the client");
        let samples = samples.ok_or_else(|| format!("a change never came: {}", proxies::last_words()))?;
        usage::wait_until_idle(pid, self.patience);
        let used = usage::cpu(pid) - before;
        let (median, p99) = median_p99(samples);
        let each = |seconds: f64| seconds * 1e3 / f64::from(self.changes);
        Ok(vec![
            ("change_ms", milliseconds(median)),
            ("change_p99_ms", milliseconds(p99)),
            ("change_user_ms", each(used.user)),
            ("change_system_ms", each(used.system)),
            ("change_cpu_ms", each(used.total())),
        ])
    }

    /// Changes as fast as the server takes them, each to another service, until the last of them is in force.
    fn burst(&self, bed: &Bed, pid: u32) -> Result<Figures, Failure> {
        let count = self.burst.min(self.size.services);
        let before = usage::cpu(pid);
        let begin = Instant::now();
        let changes = || {
            let changed: Vec<_> = (0..count)
                .map(|n| n * (self.size.services / count))
                .map(|i| (bed::service(i), bed.change(i)))
                .collect();
            let written = begin.elapsed();
            let follows = |(service, endpoint)| probe::until(service, endpoint, begin, self.patience);
            // A sample first, as asking all takes time of its own; the last one that was written is among them.
            let step = (count / SAMPLE).max(1) as usize;
            let sampled = changed.iter().rev().step_by(step).copied().try_for_each(|c| follows(c).map(drop));
            let in_force = sampled.map(|()| begin.elapsed())?;
            changed.into_iter().try_for_each(|change| follows(change).map(drop))?;
            Some((written, in_force, begin.elapsed()))
        };
        let done = bed.client().run(changes).expect("the client");
        let (written, in_force, seen) =
            done.ok_or_else(|| format!("a burst never ended: {}", proxies::last_words()))?;
        usage::wait_until_idle(pid, self.patience);
        let used = usage::cpu(pid) - before;
        Ok(vec![
            ("burst_changes", f64::from(count)),
            ("burst_written_s", written.as_secs_f64()),
            ("burst_in_force_s", in_force.as_secs_f64()),
            ("burst_all_seen_s", seen.as_secs_f64()),
            ("burst_user_s", used.user),
            ("burst_system_s", used.system),
            ("burst_cpu_s", used.total()),
            ("burst_resident_mib", usage::resident(pid)),
            ("peak_mib", usage::peak(pid)),
        ])
    }

    /// What a new connection pays under the rules.
    fn connects(&self, bed: &Bed) -> Figures {
        let step = (self.size.services / SAMPLE).max(1) as usize;
        let services: Vec<SocketAddr> = (0..self.size.services).step_by(step).map(bed::service).collect();
        let (service, service_p99) = connect_times(bed, &services);
        let (direct, _) = connect_times(bed, &[direct()]);
        let (foreign, foreign_p99) = connect_times(bed, &[bed.foreign()]);
        vec![
            ("connect_service_us", service),
            ("connect_service_p99_us", service_p99),
            ("connect_direct_us", direct),
            ("connect_foreign_us", foreign),
            ("connect_foreign_p99_us", foreign_p99),
        ]
    }

    /// The rules stay.
    fn stop(&self, mut child: HostChild) {
        let _ = child.signal(Signal::SIGTERM);
        let begin = Instant::now();
        while child.try_wait().is_ok_and(|ended| ended.is_none()) && begin.elapsed() < self.patience {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What a proxy holds and does when nothing happens.
fn rest(pid: u32) -> Figures {
    let before = usage::cpu(pid);
    std::thread::sleep(REST);
    vec![
        ("rest_cpu_s", (usage::cpu(pid) - before).total()),
        ("rest_resident_mib", usage::resident(pid)),
        ("start_peak_mib", usage::peak(pid)),
    ]
}

/// How many chains and rules of IPv4 there are in the nat and filter tables, by the tool that lists them.
fn rules(bed: &Bed, tables: bare::Tables) -> Result<Figures, Failure> {
    let tool = match tables {
        bare::Tables::Nft => "iptables-nft-save",
        bare::Tables::Legacy => "iptables-legacy-save",
    };
    let listed = bed.node().check(tool, &[], "").map_err(|error| error.to_string())?;
    let count = |start| listed.lines().filter(|line| line.starts_with(start)).count() as f64;
    Ok(vec![("chains", count(':')), ("rules", count('-'))])
}

fn connects_without_rules(bed: &Bed) -> Figures {
    let (direct, _) = connect_times(bed, &[direct()]);
    let (foreign, foreign_p99) = connect_times(bed, &[bed.foreign()]);
    vec![("bare_direct_us", direct), ("bare_foreign_us", foreign), ("bare_foreign_p99_us", foreign_p99)]
}

/// An endpoint, by its own address.
fn direct() -> SocketAddr {
    SocketAddr::new(cluster::endpoint_ip(0, 0, 0).into(), cluster::TARGET_PORTS[0])
}

/// Microseconds of a connect to these in turn: median and 99th percentile.
fn connect_times(bed: &Bed, to: &[SocketAddr]) -> (f64, f64) {
    let connect = || to.iter().cycle().take(CONNECTS).filter_map(|to| probe::connect(*to).ok()).collect();
    let samples: Vec<Duration> = bed.client().run(connect).expect("the client");
    assert!(samples.len() > CONNECTS / 2, "most connections failed");
    let (median, p99) = median_p99(samples);
    (median.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6)
}

/// Numbers without visible order, always the same.
fn scattered(n: u32) -> u32 {
    (n + 1).wrapping_mul(2_654_435_761) >> 7
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Four digits are more than the machine repeats.
fn rounded(value: f64) -> Value {
    let digits = (3 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6);
    let scale = 10f64.powi(digits);
    ((value * scale).round() / scale).into()
}
