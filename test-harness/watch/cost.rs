//! What watching costs. Not run with the others: `cargo test --release --test watch -- --ignored --nocapture cost`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use weir::kernel::netlink::{Listener, NetlinkError, Protocol};
use weir::kernel::xtables::Table;
use weir::net::Family;

use crate::namespace::in_namespace;
use crate::writer::{Transaction, Writer};

const SIZES: [u32; 4] = [1, 10, 1_000, 100_000];
/// Rules that are there already, in a table of their own.
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
        let mut transaction = rules(count);
        best.0 = best.0.min(writer.commit(&mut transaction));
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
    in_namespace("cost", || {
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
