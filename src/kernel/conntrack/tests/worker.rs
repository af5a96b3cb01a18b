use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::{
    ConntrackError, Ending, FamilyStats, Filter, FlowTable, Judgement, Purged, Run, Timing, Worker, run,
};
use super::*;
use crate::kernel::netlink::NetlinkError;

/// A table in memory, with endings to come.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    flows: Vec<Flow>,
    /// How the next lists end; complete when there are none left.
    endings: VecDeque<Result<Ending, ConntrackError>>,
    lists: Vec<Filter>,
    /// Called after this many flows of a list.
    at: Option<(usize, Box<dyn FnOnce() + Send>)>,
}

impl Table {
    fn of(flows: Vec<Flow>) -> Self {
        Table(Arc::new(Mutex::new(Inner { flows, ..Inner::default() })))
    }

    fn ends(self, endings: impl IntoIterator<Item = Result<Ending, ConntrackError>>) -> Self {
        self.0.lock().unwrap().endings.extend(endings);
        self
    }

    fn left(&self) -> Vec<Flow> {
        self.0.lock().unwrap().flows.clone()
    }

    fn lists(&self) -> usize {
        self.0.lock().unwrap().lists.len()
    }
}

impl FlowTable for Table {
    fn purge(
        &mut self,
        filter: &Filter,
        _: Instant,
        judge: &mut dyn FnMut(&Flow) -> Judgement,
        purged: &mut Purged,
    ) -> Result<Ending, ConntrackError> {
        let mut inner = self.0.lock().unwrap();
        inner.lists.push(*filter);
        let ending = inner.endings.pop_front().unwrap_or(Ok(Ending::Complete));
        // A list that fails does so before its first entry.
        ending.clone()?;
        for (seen, flow) in inner.flows.clone().into_iter().filter(|flow| filter.matches(flow)).enumerate() {
            if inner.at.as_ref().is_some_and(|(at, _)| *at == seen) {
                inner.at.take().unwrap().1();
            }
            purged.seen += 1;
            match judge(&flow) {
                Judgement::Keep => {}
                Judgement::Stop => return Ok(Ending::Stopped),
                Judgement::Delete => {
                    inner.flows.retain(|other| *other != flow);
                    purged.deleted += 1;
                }
            }
        }
        ending
    }
}

const QUICK: Timing = Timing {
    settle: Duration::from_millis(5),
    deadline: Duration::from_secs(10),
    first_retry: Duration::from_millis(10),
    longest_retry: Duration::from_millis(20),
};

fn worker(table: &Table) -> Worker {
    let table = table.clone();
    Worker::spawn_for(move || Ok(table.clone()), QUICK, |_| ()).unwrap()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn lost() -> ConntrackError {
    NetlinkError::Timeout { asked: "list", after: Duration::from_secs(1) }.into()
}

fn dns(endpoints: &[&str]) -> ServicePort {
    udp("dns", "10.96.0.10:53", endpoints)
}

/// From one endpoint to another.
fn replaced() -> Cleanup {
    cleanup(Some(&dns(&["10.1.0.1:53"])), Some(&dns(&["10.1.0.2:53"])))
}

fn to(endpoint: &str) -> Flow {
    flow("10.96.0.10:53", endpoint)
}

#[test]
fn s41_what_is_counted_is_what_was_deleted() {
    let kept = [to("10.1.0.2:53"), flow("10.96.0.10:54", "10.1.0.1:53")];
    let table = Table::of([&[to("10.1.0.1:53"), to("10.1.0.3:53")], &kept[..]].concat());
    let runs = Arc::new(Mutex::new(Vec::<Run>::new()));
    let worker = Worker::spawn_for(
        {
            let table = table.clone();
            move || Ok(table.clone())
        },
        QUICK,
        {
            let runs = runs.clone();
            move |run| runs.lock().unwrap().push(*run)
        },
    )
    .unwrap();
    worker.submit(replaced());
    wait_until("it is done", || worker.is_idle());
    assert_eq!(table.left(), kept);
    let stats = worker.stats();
    assert_eq!((stats.v4.runs, stats.v4.deleted, stats.v4.failures), (1, 2, 0));
    assert_eq!(stats.v6, FamilyStats::default(), "nothing of IPv6 was asked for");
    let runs = runs.lock().unwrap();
    assert_eq!(
        runs.iter().map(|run| (run.family, run.purged)).collect::<Vec<_>>(),
        [(Family::V4, Purged { seen: 3, deleted: 2 })]
    );
    assert_eq!(stats.v4.last_duration, Some(runs[0].duration));
}

#[test]
fn s44_an_interrupted_list_is_read_five_times_at_most() {
    for (interruptions, lists) in [(0, 1), (1, 2), (4, 5), (9, 5)] {
        let table = Table::of(vec![to("10.1.0.1:53")]).ends(vec![Ok(Ending::Interrupted); interruptions]);
        let worker = worker(&table);
        worker.submit(replaced());
        wait_until("it is done", || worker.is_idle());
        assert_eq!(table.lists(), lists, "after {interruptions} interruptions");
        assert_eq!(table.left(), [], "what was seen is used");
        assert_eq!((worker.stats().v4.runs, worker.stats().v4.deleted), (1, 1));
    }
}

#[test]
fn s45_a_list_that_fails_deletes_nothing_and_is_tried_again() {
    let table = Table::of(vec![to("10.1.0.1:53")]).ends(vec![Err(lost()), Err(lost())]);
    let worker = worker(&table);
    worker.submit(replaced());
    wait_until("one failed", || worker.stats().v4.failures == 1);
    wait_until("it is done", || worker.is_idle());
    let stats = worker.stats().v4;
    assert_eq!((stats.runs, stats.failures, stats.deleted), (1, 2, 1));
    assert_eq!(table.left(), []);
}

#[test]
fn s45_a_failure_deletes_nothing() {
    let mut table = Table::of(vec![to("10.1.0.1:53")]).ends([Err(lost())]);
    let mut purged = Purged::default();
    let lists = run::lists(&replaced(), Family::V4);
    let ended = run::purge(&mut table, &lists, Instant::now(), &mut |_| Judgement::Delete, &mut purged);
    assert_eq!((ended, purged), (Err(lost()), Purged::default()));
    assert_eq!(table.left().len(), 1);
}

#[test]
fn a_table_that_cannot_be_opened_is_opened_later() {
    let table = Table::of(vec![to("10.1.0.1:53")]);
    let mut failures = 3;
    let worker = Worker::spawn_for(
        {
            let table = table.clone();
            move || {
                if failures > 0 {
                    failures -= 1;
                    return Err(lost());
                }
                Ok(table.clone())
            }
        },
        QUICK,
        |_| (),
    )
    .unwrap();
    worker.submit(replaced());
    wait_until("it is done", || worker.is_idle());
    assert_eq!((table.left(), worker.stats().v4.failures), (vec![], 3));
}

#[test]
fn only_the_family_that_failed_is_done_again() {
    let six = cleanup(None, Some(&udp("six", "[fd00:10::a]:53", &["[fd00:1::1]:53"])));
    let mut both = replaced();
    both.merge(six);
    let table = Table::of(vec![]).ends([Err(lost()), Ok(Ending::Complete)]);
    let worker = worker(&table);
    worker.submit(both);
    wait_until("it is done", || worker.is_idle());
    let stats = worker.stats();
    assert_eq!((stats.v4.runs, stats.v4.failures, stats.v6.runs, stats.v6.failures), (1, 1, 1, 0));
}

#[test]
fn a_burst_becomes_one_run() {
    let table = Table::of(vec![to("10.1.0.1:53")]);
    let opened = table.clone();
    let timing = Timing { settle: Duration::from_millis(200), ..QUICK };
    let worker = Worker::spawn_for(move || Ok(opened.clone()), timing, |_| ()).unwrap();
    for _ in 0..10 {
        worker.submit(replaced());
    }
    wait_until("it is done", || worker.is_idle());
    assert_eq!((table.lists(), worker.stats().v4.runs), (1, 1));
    worker.submit(Cleanup::default());
    assert!(worker.is_idle(), "nothing was asked for");
}

/// While the table is gone through, the old endpoint comes back: flows to it are no longer for this run to judge.
#[test]
fn a_newer_request_overrules_a_running_one() {
    let table = Table::of(vec![to("10.1.0.9:53"), to("10.1.0.1:53"), to("10.1.0.2:53")]);
    let worker = Arc::new(worker(&table));
    let back = cleanup(Some(&dns(&["10.1.0.2:53"])), Some(&dns(&["10.1.0.1:53"])));
    let submitter = worker.clone();
    table.0.lock().unwrap().at = Some((1, Box::new(move || submitter.submit(back))));
    worker.submit(replaced());
    wait_until("it is done", || worker.is_idle());
    assert_eq!(table.left(), [to("10.1.0.1:53")]);
    assert_eq!(worker.stats().v4.runs, 2);
}

/// A newer request that finds the frontend without endpoints still deletes what the older one was about.
#[test]
fn an_overruled_request_is_not_forgotten() {
    let table = Table::of(vec![to("10.1.0.9:53"), to("10.1.0.1:53"), to("10.1.0.2:53")]);
    let worker = Arc::new(worker(&table));
    let none = cleanup(Some(&dns(&["10.1.0.2:53"])), Some(&dns(&[])));
    let submitter = worker.clone();
    table.0.lock().unwrap().at = Some((1, Box::new(move || submitter.submit(none))));
    worker.submit(replaced());
    wait_until("it is done", || worker.is_idle());
    assert_eq!(table.left(), []);
}

/// Dropping the worker in the middle of a large table does not wait for its end.
#[test]
fn it_stops_in_the_middle() {
    let mut flows = vec![to("10.1.0.1:53"); 1000];
    for (id, flow) in (0..).zip(&mut flows) {
        flow.id = id;
    }
    let table = Table::of(flows);
    let worker = worker(&table);
    let (reached, halfway) = std::sync::mpsc::channel();
    let pause = move || {
        reached.send(()).unwrap();
        // Time for the other thread to ask it to stop.
        std::thread::sleep(Duration::from_millis(300));
    };
    table.0.lock().unwrap().at = Some((500, Box::new(pause)));
    worker.submit(replaced());
    halfway.recv_timeout(Duration::from_secs(10)).unwrap();
    drop(worker);
    assert_eq!(table.left().len(), 500);
}

/// While failing it waits, but not to stop.
#[test]
fn it_stops_while_it_waits() {
    let timing = Timing { first_retry: Duration::from_secs(600), longest_retry: Duration::from_secs(600), ..QUICK };
    let worker = Worker::spawn_for(|| Err::<Table, _>(lost()), timing, |_| ()).unwrap();
    worker.submit(replaced());
    wait_until("it failed", || worker.stats().v4.failures == 1);
    let start = Instant::now();
    drop(worker);
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Few ports are asked for one by one, many with one list.
#[test]
fn lists_are_few() {
    let wanted = |services: &[ServicePort]| run::lists(&Cleanup::of_all(services, &scope()), Family::V4);
    let endpoint = &["10.1.0.1:53"];
    assert_eq!(wanted(&[udp("a", "10.96.0.10:53", endpoint)]), [Filter::udp_to(at("10.96.0.10:53"))]);
    let two = [udp("a", "10.96.0.10:53", endpoint), udp("b", "10.96.0.11:53", endpoint)];
    assert_eq!(wanted(&two), [Filter::udp_port(Family::V4, 53)]);
    let node_port = ServicePort { node_port: 30053, ..udp("a", "10.96.0.10:53", endpoint) };
    assert_eq!(wanted(&[node_port]), [Filter::udp_to(at("10.96.0.10:53")), Filter::udp_port(Family::V4, 30053)]);
    let many: Vec<_> = (1..=9).map(|i| udp(&format!("s{i}"), &format!("10.96.0.{i}:{i}"), endpoint)).collect();
    assert_eq!(wanted(&many), [Filter::udp(Family::V4)]);
    assert_eq!(run::lists(&Cleanup::of_all(&many, &scope()), Family::V6), []);
}
