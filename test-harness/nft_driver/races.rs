//! Somebody else writes at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sched::{CloneFlags, setns};
use weir::kernel::xtables::nft::NftDriver;
use weir::kernel::xtables::{Rule, Target, Xtables};
use weir::net::Family;

use crate::namespace::{alone, nat, note, observe, written};

/// Another writer changes its own chains as fast as it can, and ours as well: every change of ours is what the kernel
/// holds when it is said to be.
#[test]
fn changes_come_through_beside_a_busy_writer() {
    alone("races", |mut driver| {
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let busy = scope.spawn(|| {
                setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
                let mut other = NftDriver::new(Family::ALL.to_vec());
                let mut round = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let mark = Rule { target: Some(Target::Mark { value: round, mask: !0 }), ..Rule::default() };
                    other.apply(&written(vec![(nat("KUBE-SVC-OTHER"), vec![mark])])).unwrap();
                    if round.is_multiple_of(5) {
                        other.apply(&written(vec![(nat("KUBE-SVC-OURS"), vec![note("stray")])])).unwrap();
                    }
                    std::thread::sleep(std::time::Duration::from_micros(500));
                }
                round
            });
            for i in 0..100 {
                let rules: Vec<Rule> = (0..5).map(|n| note(&format!("{i}-{n}"))).collect();
                driver.apply(&written(vec![(nat("KUBE-SVC-OURS"), rules.clone())])).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            assert!(busy.join().unwrap() > 10, "the other writer was not busy");
        });
        let rules: Vec<Rule> = (0..5).map(|n| note(&format!("end-{n}"))).collect();
        driver.apply(&written(vec![(nat("KUBE-SVC-OURS"), rules.clone())])).unwrap();
        let seen = observe(&mut driver);
        assert_eq!(seen[&nat("KUBE-SVC-OURS")], rules, "no rule twice, none left over");
    });
}
