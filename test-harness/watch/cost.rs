//! What watching costs. Not run with the others: `cargo test --release --test watch -- --ignored --nocapture cost`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir::kernel::netlink::{Listener, NetlinkError, Protocol};
use weir::kernel::xtables::Table;
use weir::kernel::xtables::variant::Variant;
use weir::net::Family;

use crate::fixture::{Watched, installed, populate, tool};
use crate::namespace::in_namespace;
use crate::writer::{Transaction, Writer};

const SIZES: [u32; 4] = [1, 10, 1_000, 100_000];
/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;

fn rules(count: u32) -> Transaction {
    let mut transaction = Transaction::new(Family::V4, Table::Nat);
    transaction.make_table();
    for number in 0..count {
        let chain = format!("KUBE-SVC-{:016}", number / 10);
        if number % 10 == 0 {
            transaction.make_chain(&chain);
        }
        transaction.append(&chain, number);
    }
    transaction
}

/// Times to write this many rules, and to delete them with their table; the shortest of some runs.
fn write_and_delete(count: u32) -> (Duration, Duration) {
    let runs = if count > 10_000 { 3 } else { 30 };
    let mut writer = Writer::new();
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..runs {
        best.0 = best.0.min(writer.commit(&mut rules(count)));
        best.1 = best.1.min(writer.commit(Transaction::new(Family::V4, Table::Nat).delete_table()));
        std::thread::sleep(Duration::from_millis(5));
    }
    best
}

/// Reads notifications until told to stop. Counts messages and losses.
fn listen(listener: &mut Listener, stop: &AtomicBool, lost: &AtomicUsize) -> usize {
    let mut messages = 0;
    while !stop.load(Ordering::Relaxed) {
        match listener.receive(|_| messages += 1) {
            Ok(true) => {}
            Ok(false) => std::thread::sleep(Duration::from_micros(200)),
            Err(NetlinkError::Overrun { .. }) => _ = lost.fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("{error}"),
        }
    }
    messages
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_listener_to_the_writer() {
    in_namespace(|| {
        println!("| rules in a commit | alone: write, delete | a listener that reads | one that does not |");
        for count in SIZES {
            let alone = write_and_delete(count);
            let mut listener = Listener::open(Protocol::Netfilter).unwrap();
            listener.membership().unwrap().join(GROUP).unwrap();
            let (stop, lost) = (AtomicBool::new(false), AtomicUsize::new(0));
            let (reading, messages) = std::thread::scope(|scope| {
                let reader = scope.spawn(|| listen(&mut listener, &stop, &lost));
                let times = write_and_delete(count);
                std::thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
                (times, reader.join().unwrap())
            });
            let lost = lost.load(Ordering::Relaxed);
            let ignoring = write_and_delete(count);
            println!("| {count} | {alone:.2?} | {reading:.2?}, {messages} messages, {lost} losses | {ignoring:.2?} |");
        }
    });
}

/// One rule more in a chain that is there, as often as can be: what a network plugin does for each pod.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_watcher_to_small_commits() {
    in_namespace(|| {
        let mut writer = Writer::new();
        writer.commit(&mut rules(1000));
        let mut small = |what: &str| {
            let mut times: Vec<Duration> = (0..200)
                .map(|number| {
                    let mut transaction = Transaction::new(Family::V4, Table::Nat);
                    let took = writer.commit(transaction.append("KUBE-SVC-0000000000000000", number));
                    std::thread::sleep(Duration::from_millis(2));
                    took
                })
                .collect();
            times.sort();
            println!("{what}: a rule median {:?}, 99 of 100 within {:?}", times[100], times[198]);
        };
        small("alone");
        let watched = Watched::start(Variant::Nft);
        small("watched");
        drop(watched);
        small("alone");
    });
}

/// CPU time of the watcher's thread so far. There must be only one.
fn used() -> Duration {
    // A new thread has no name for a moment.
    std::thread::sleep(Duration::from_millis(50));
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    let found: Vec<_> = tasks.filter(|path| name(path).trim() == "weir-watch").collect();
    assert_eq!(found.len(), 1);
    let text = std::fs::read_to_string(found[0].join("schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measurement"]
fn cost_of_watching_while_nothing_happens() {
    in_namespace(|| {
        for variant in Variant::ALL {
            if installed(&tool(Family::V4, variant, "")) {
                populate(variant);
            }
            let _watched = Watched::start(variant);
            let (start, before) = (Instant::now(), used());
            std::thread::sleep(Duration::from_secs(20));
            let share = (used() - before).as_secs_f64() / start.elapsed().as_secs_f64();
            println!("{variant}: {:.4} % of a core", share * 100.0);
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn cost_of_others_commits() {
    in_namespace(|| {
        let mut writer = Writer::new();
        writer.commit(Transaction::new(Family::V4, Table::Nat).make_table().make_chain("CNI-X").make_chain("KUBE-X"));
        let watched = Watched::start(Variant::Nft);
        for (who, chain, port) in [("another's chain", "CNI-X", None), ("our own", "KUBE-X", Some(writer.port()))] {
            port.inspect(|port| watched.own.port(*port));
            for count in [1, 1000] {
                let before = used();
                for _ in 0..100 {
                    let mut transaction = Transaction::new(Family::V4, Table::Nat);
                    (0..count).for_each(|number| _ = transaction.append(chain, number));
                    writer.commit(&mut transaction);
                    std::thread::sleep(Duration::from_millis(3));
                }
                std::thread::sleep(Duration::from_millis(300));
                println!("{who}: {count} rules cost the watcher {:?}", (used() - before) / 100);
            }
        }
    });
}
