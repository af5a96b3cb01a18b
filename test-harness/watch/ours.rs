//! Our own writes, and others' at the same time.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use weir::kernel::watch::Write;
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{Scope, Suspicion, Table};
use weir::net::Family;

use crate::fixture::{PATIENCE, Watched, chains, installed, populate, run};
use crate::namespace::in_namespace;
use crate::writer::{Transaction, Writer};

const SERVICES: &str = "KUBE-SERVICES";

fn nat() -> Transaction {
    Transaction::new(Family::V4, Table::Nat)
}

/// A commit that adds a rule.
fn rule(chain: &str) -> Transaction {
    let mut transaction = nat();
    transaction.make_chain(chain).append(chain, 1);
    transaction
}

/// Two writers over a table: us and somebody.
fn writers() -> (Writer, Writer) {
    let (mut we, they) = (Writer::new(), Writer::new());
    let mut transaction = nat();
    transaction.make_table().make_chain(SERVICES).append(SERVICES, 1).make_chain("CNI-X");
    we.commit(&mut transaction);
    (we, they)
}

fn everything() -> Suspicion {
    Suspicion::anything()
}

#[test]
fn our_own_writes_are_silent() {
    in_namespace(|| {
        let (mut we, mut they) = writers();
        let watched = Watched::start(Variant::Nft);
        watched.own.port(we.port());
        for _ in 0..200 {
            let _writing = watched.own.begin(Write::Small);
            we.commit(&mut rule(SERVICES));
        }
        we.commit(nat().delete_table());
        we.commit(nat().make_table().make_chain(SERVICES));
        watched.is_silent("we write");
        they.commit(&mut rule(SERVICES));
        assert_eq!(watched.all("they write").scope, chains(Family::V4, Table::Nat, &[SERVICES]));
        watched.own.forget_port(we.port());
        we.commit(&mut rule(SERVICES));
        assert_eq!(watched.all("we are nobody").scope, chains(Family::V4, Table::Nat, &[SERVICES]));
    });
}

#[test]
fn a_thousand_commits_of_a_network_plugin_tell_nothing() {
    in_namespace(|| {
        let (_, mut they) = writers();
        let watched = Watched::start(Variant::Nft);
        for _ in 0..1000 {
            they.commit(&mut rule("CNI-X"));
        }
        watched.is_silent("not ours");
        they.commit(&mut rule("POSTROUTING"));
        assert_eq!(watched.all("a built-in chain").scope, chains(Family::V4, Table::Nat, &["POSTROUTING"]));
    });
}

#[test]
fn a_storm_is_told_in_steps() {
    in_namespace(|| {
        let (_, mut they) = writers();
        let watched = Watched::start(Variant::Nft);
        let start = Instant::now();
        let mut told = 0;
        let mut commits = 0u32;
        while start.elapsed() < Duration::from_millis(500) {
            they.commit(&mut rule(SERVICES));
            commits += 1;
        }
        let end = Instant::now();
        loop {
            let (at, suspicion) = watched.next("a storm");
            assert_eq!(suspicion.scope, chains(Family::V4, Table::Nat, &[SERVICES]));
            told += 1;
            if at > end {
                break;
            }
            // The last one comes within a step of the end, or came just before it.
            if end.saturating_duration_since(at) < Duration::from_millis(20) {
                break;
            }
        }
        println!("{commits} commits were told in {told} times");
        assert!(told <= end.duration_since(start).as_millis() / 20 + 2, "{told} of {commits}");
    });
}

#[test]
fn our_large_commits_are_silent_and_a_flush_during_them_is_found_after() {
    in_namespace(|| {
        let (mut we, mut they) = writers();
        let watched = Watched::start(Variant::Nft);
        watched.own.port(we.port());
        for meddle in [false, true, false, true] {
            let writing = watched.own.begin(Write::Large);
            for number in 0..5 {
                let chain = format!("KUBE-SVC-{number}");
                let mut transaction = nat();
                transaction.make_chain(&chain);
                (0..2000).for_each(|number| _ = transaction.append(&chain, number));
                we.commit(&mut transaction);
                writing.made(we.generation());
                if meddle && number == 2 {
                    they.commit(nat().flush(SERVICES));
                }
            }
            watched.is_silent("it goes on");
            let end = Instant::now();
            drop(writing);
            if meddle {
                let (at, suspicion) = watched.next("a flush");
                assert_eq!(suspicion, everything());
                println!("found {:?} after the end", at - end);
            }
            watched.is_silent("ours alone");
            they.commit(&mut rule(SERVICES));
            let found = watched.all("a rule");
            assert_eq!(found.scope, chains(Family::V4, Table::Nat, &[SERVICES]), "it listens again");
            assert_eq!(found.by.len(), 1);
        }
    });
}

/// A commit that we did not tell of, while nobody listened, is not ours.
#[test]
fn a_large_commit_of_unknown_outcome_is_suspect() {
    in_namespace(|| {
        let (mut we, _) = writers();
        let watched = Watched::start(Variant::Nft);
        watched.own.port(we.port());
        let writing = watched.own.begin(Write::Large);
        we.commit(&mut rule(SERVICES));
        drop(writing);
        assert_eq!(watched.all("no answer came"), everything());
        drop(watched.own.begin(Write::Large));
        watched.is_silent("nothing was committed");
    });
}

#[test]
fn many_writes_one_after_the_other_are_silent() {
    in_namespace(|| {
        let (mut we, mut they) = writers();
        let watched = Watched::start(Variant::Nft);
        watched.own.port(we.port());
        for number in 0..300 {
            let kind = if number % 3 == 0 { Write::Small } else { Write::Large };
            let writing = watched.own.begin(kind);
            we.commit(&mut rule(SERVICES));
            writing.made(we.generation());
        }
        watched.is_silent("we write");
        they.commit(&mut rule(SERVICES));
        assert_eq!(watched.all("they write").scope, chains(Family::V4, Table::Nat, &[SERVICES]));
    });
}

#[test]
fn tools_that_write_for_us_are_silent() {
    in_namespace(|| {
        if !installed("iptables-nft") {
            return;
        }
        populate(Variant::Nft);
        let watched = Watched::start(Variant::Nft);
        for _ in 0..5 {
            let writing = watched.own.begin(Write::ByTool);
            populate(Variant::Nft);
            drop(writing);
        }
        watched.is_silent("ours");
        run("iptables-nft", "-t nat -F KUBE-SERVICES", "");
        let found = watched.all("a flush");
        assert_eq!(found.scope, chains(Family::V4, Table::Nat, &[SERVICES]));
        assert_eq!(found.by.len(), 1);
    });
}

/// While the watcher is kept from reading, more is told than the kernel keeps.
#[test]
fn lost_notifications_are_anything() {
    in_namespace(|| {
        let (_, mut they) = writers();
        let (go_on, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let watched = Watched::with(Variant::Nft, move |_| _ = wait.lock().unwrap().recv_timeout(PATIENCE));
        they.commit(&mut rule(SERVICES));
        std::thread::sleep(Duration::from_millis(50));
        // In pieces that an ordinary user may send.
        for _ in 0..150 {
            let mut transaction = nat();
            (0..200).for_each(|number| _ = transaction.append("CNI-X", number));
            they.commit(&mut transaction);
        }
        drop(go_on);
        assert_eq!(watched.next("the first").1.scope, chains(Family::V4, Table::Nat, &[SERVICES]));
        assert_eq!(watched.all("what was lost").scope, Scope::All);
        they.commit(&mut rule(SERVICES));
        let found = watched.all("a rule");
        assert_eq!(found.scope, chains(Family::V4, Table::Nat, &[SERVICES]), "it is in step again");
    });
}

#[test]
fn it_stops_at_once() {
    in_namespace(|| {
        let (_, mut they) = writers();
        for variant in Variant::ALL {
            let watched = Watched::start(variant);
            they.commit(&mut rule(SERVICES));
            let start = Instant::now();
            drop(watched.watch);
            let took = start.elapsed();
            println!("{variant}: stopped in {took:?}");
            assert!(took < Duration::from_millis(100), "{took:?}");
            // What a driver does after that is fine.
            drop(watched.own.begin(Write::Large));
        }
    });
}
