use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs in a network namespace of its own, as root; says so where it cannot.
fn in_namespace(test: fn()) {
    let ran = std::thread::spawn(move || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(errno) => crate::lab::skipped(&format!("watch, legacy: no network namespace: {errno} (run as root)")),
    });
    ran.join().unwrap();
}

#[test]
fn looking_makes_no_table() {
    in_namespace(|| {
        let own = OwnWrites::new();
        let watch = LegacyWatch::open(&own, &Family::ALL).unwrap();
        for _ in 0..2 * TRUST {
            assert_eq!(watch.look(), Ok(false));
        }
        for family in Family::ALL {
            assert_eq!(present(family), []);
        }
    });
}

#[test]
fn a_table_that_appears_is_a_change() {
    in_namespace(|| {
        let own = OwnWrites::new();
        let watch = LegacyWatch::open(&own, &Family::ALL).unwrap();
        // Asking for it makes it, where the kernel has legacy tables.
        if Asker::open(Family::V4).unwrap().info(Table::Nat).is_err() {
            return crate::lab::skipped("watch, legacy: the kernel has no legacy tables");
        }
        assert_eq!(present(Family::V4), [Table::Nat]);
        let changes = (0..2 * TRUST).filter(|_| watch.look().unwrap()).count();
        assert_eq!(changes, 1);
        drop(own.begin(super::super::Write::ByTool));
        assert_eq!(watch.look(), Ok(false));
    });
}

#[test]
fn what_happened_before_our_write_is_not_ours() {
    in_namespace(|| {
        let own = OwnWrites::new();
        let asker = Asker::open(Family::V4).unwrap();
        if asker.info(Table::Nat).is_err() {
            return crate::lab::skipped("watch, legacy: the kernel has no legacy tables");
        }
        let watch = LegacyWatch::open(&own, &Family::ALL).unwrap();
        // As if a rule had been added.
        watch.tables().seen.insert((Family::V4, Table::Nat), Asker::info(&asker, Table::Filter).unwrap());
        let writing = own.begin(super::super::Write::ByTool);
        assert_eq!(watch.look(), Ok(true), "told while we write");
        watch.tables().seen.insert((Family::V4, Table::Nat), Asker::info(&asker, Table::Filter).unwrap());
        assert_eq!(watch.look(), Ok(false), "not looked at while we write");
        drop(writing);
        assert_eq!(watch.look(), Ok(false));
    });
}
