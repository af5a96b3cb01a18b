//! A change of several tables is one transaction; a refused one leaves nothing.

use weir::kernel::xtables::{BuiltinChange, Table, Xtables};

use crate::namespace::{alone, jump, key, nat, note, observe, written};

#[test]
fn all_tables_of_a_family_change_at_once() {
    alone("at once", |mut driver| {
        let filter = key(Table::Filter, "KUBE-SERVICES");
        let mut changes = written(vec![
            (nat("KUBE-SERVICES"), vec![jump("KUBE-SVC-A")]),
            (nat("KUBE-SVC-A"), vec![note("a")]),
            (filter.clone(), vec![note("reject")]),
        ]);
        changes.builtin = vec![
            BuiltinChange::Insert(nat("OUTPUT"), jump("KUBE-SERVICES")),
            BuiltinChange::Insert(key(Table::Filter, "OUTPUT"), jump("KUBE-SERVICES")),
        ];
        driver.apply(&changes).unwrap();
        assert_eq!(driver.written().transactions, 1);
        assert_eq!(observe(&mut driver).len(), 5);
    });
}

#[test]
fn a_refused_change_leaves_everything_as_it_was() {
    alone("refused", |mut driver| {
        driver.apply(&written(vec![(nat("KUBE-SVC-A"), vec![note("a")])])).unwrap();
        let before = observe(&mut driver);
        let changes = written(vec![
            (nat("KUBE-SVC-A"), vec![note("b")]),
            (nat("KUBE-SVC-B"), vec![note("b")]),
            (nat("KUBE-SVC-C"), vec![jump("KUBE-SVC-NOWHERE")]),
        ]);
        let error = driver.apply(&changes).unwrap_err();
        assert_eq!(error.chain, Some(nat("KUBE-SVC-C")), "{error}");
        assert_eq!(observe(&mut driver), before);
    });
}

/// One family's trouble is not the other's.
#[test]
fn a_family_that_is_refused_does_not_hold_the_other_back() {
    alone("families", |mut driver| {
        let v6 = weir::kernel::xtables::ChainKey { family: weir::net::Family::V6, ..nat("KUBE-SVC-B") };
        let changes = written(vec![(nat("KUBE-SVC-A"), vec![jump("KUBE-SVC-NOWHERE")]), (v6.clone(), vec![note("b")])]);
        assert_eq!(driver.apply(&changes).unwrap_err().chain, Some(nat("KUBE-SVC-A")));
        assert_eq!(observe(&mut driver).into_keys().collect::<Vec<_>>(), [v6]);
    });
}
