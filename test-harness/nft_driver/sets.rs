//! Rules that look in sets.

use weir::kernel::ipset::{IpsetDriver, SetChange, SetName, SetSpec, SetType, Sets};
use weir::kernel::xtables::{
    ApplyErrorKind, BuiltinChange, Changes, Direction, Match, ObservedRule, Rule, Table, Target, Xtables,
};
use weir::lab::skipped;
use weir::net::Family;

use crate::namespace::{alone, beside_the_tools, key, observe, tool, written};

fn installed() -> bool {
    let found = std::process::Command::new("ipset").arg("--version").output().is_ok();
    if !found {
        skipped("rules that look in sets: ipset is not installed");
    }
    found
}

fn lookup(set: &str, directions: &[Direction]) -> Rule {
    let lookup = Match::Set { invert: false, set: SetName::new(set), directions: directions.into() };
    Rule { matches: vec![lookup], target: Some(Target::Accept), ..Rule::default() }
}

fn refused(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    assert!(!output.status.success(), "{program} {arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const ADDRESS: &[Direction] = &[Direction::Destination];
const SERVICE: &[Direction] = &[Direction::Destination, Direction::Destination];

#[test]
fn a_lookup_is_written_once_and_holds_the_set() {
    if !installed() {
        return;
    }
    beside_the_tools("sets", |mut driver, mut tools| {
        tool("ipset", &["restore"], "create A hash:ip\ncreate B hash:ip,port\ncreate C hash:ip\n");
        let chain = key(Table::Filter, "KUBE-FORWARD");
        let rules = vec![lookup("A", ADDRESS), lookup("B", SERVICE), lookup("A", ADDRESS)];
        let changes = written(vec![(chain.clone(), rules.clone())]);
        driver.apply(&changes).unwrap();
        assert_eq!(observe(&mut driver)[&chain], rules);
        assert_eq!(observe(&mut tools), observe(&mut driver));

        let before = driver.written();
        driver.apply(&changes).unwrap();
        assert_eq!(driver.written(), before, "nothing differs");

        let said = refused("ipset", &["destroy", "A"]);
        assert!(said.contains("in use"), "{said}");
        // The name goes to the other set, the rule with it.
        tool("ipset", &["swap", "A", "C"], "");
        driver.apply(&changes).unwrap();
        assert_eq!(driver.written(), before, "nothing differs");
        let said = refused("ipset", &["destroy", "A"]);
        assert!(said.contains("in use"), "{said}");
        tool("ipset", &["destroy", "C"], "");

        driver.apply(&written(vec![(chain.clone(), vec![lookup("B", SERVICE)])])).unwrap();
        assert_eq!(observe(&mut tools)[&chain], [lookup("B", SERVICE)]);
        tool("ipset", &["destroy", "A"], "");
        // The index of the set that is gone goes to a new one.
        tool("ipset", &["create", "D", "hash:ip"], "");
        driver.apply(&written(vec![(chain.clone(), vec![lookup("D", ADDRESS)])])).unwrap();
        assert_eq!(observe(&mut tools)[&chain], [lookup("D", ADDRESS)]);
    });
}

/// nf_tables lets go of the set some time after the rule is gone.
#[test]
fn a_set_can_be_destroyed_right_after_its_rule() {
    alone("rule and set", |mut driver| {
        let mut sets = match IpsetDriver::open() {
            Ok(sets) => sets,
            Err(error) => return skipped(&format!("rule and set: {error}")),
        };
        let spec = SetSpec { set_type: SetType::HashIp, family: Family::V4, comments: false };
        let change = |before, after| {
            let change = SetChange { before, after, ..SetChange::default() };
            weir::kernel::ipset::Changes { sets: [(SetName::new("A"), change)].into() }
        };
        let chain = key(Table::Filter, "KUBE-FORWARD");
        for _ in 0..5 {
            sets.apply(&change(None, Some(spec))).unwrap();
            driver.apply(&written(vec![(chain.clone(), vec![lookup("A", ADDRESS)])])).unwrap();
            driver.apply(&written(vec![(chain.clone(), vec![])])).unwrap();
            sets.apply(&change(Some(spec), None)).unwrap();
        }
        sets.apply(&change(None, Some(spec))).unwrap();
        driver.apply(&written(vec![(chain.clone(), vec![lookup("A", ADDRESS)])])).unwrap();
        let error = sets.apply(&change(Some(spec), None)).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Refused, "{error}");
        assert!(error.message.starts_with("the ipset A cannot be destroyed"), "{error}");
    });
}

/// In a chain of ours and in a built-in one.
#[test]
fn a_set_that_is_not_there_is_named() {
    alone("absent set", |mut driver| {
        let chain = key(Table::Filter, "KUBE-FORWARD");
        let input = key(Table::Filter, "INPUT");
        let in_chain = written(vec![(chain.clone(), vec![lookup("KUBE-CLUSTER-IP", SERVICE)])]);
        let insert = BuiltinChange::Insert(input.clone(), lookup("KUBE-CLUSTER-IP", SERVICE));
        let in_input = Changes { builtin: vec![insert], ..Changes::default() };
        for (changes, chain) in [(in_chain, chain), (in_input, input)] {
            let error = driver.apply(&changes).unwrap_err();
            assert_eq!((error.kind, error.chain.as_ref()), (ApplyErrorKind::Refused, Some(&chain)), "{error}");
            assert!(error.message.contains("the ipset KUBE-CLUSTER-IP, which is not there"), "{error}");
            assert!(error.message.contains(chain.name.as_str()) && !error.message.contains('\n'), "{error}");
        }
        assert!(observe(&mut driver).is_empty());
    });
}

/// Deleting the first equal rule of a built-in chain finds a lookup.
#[test]
fn a_lookup_in_a_built_in_chain_is_deleted() {
    if !installed() {
        return;
    }
    beside_the_tools("sets in INPUT", |mut driver, mut tools| {
        tool("ipset", &["restore"], "create A hash:ip\ncreate B hash:ip,port\n");
        let input = key(Table::Filter, "INPUT");
        let append = |rule| Changes { builtin: vec![BuiltinChange::Append(input.clone(), rule)], ..Changes::default() };
        tools.apply(&append(lookup("A", ADDRESS))).unwrap();
        driver.apply(&append(lookup("B", SERVICE))).unwrap();
        tool("iptables-nft", &["-A", "INPUT", "-m", "set", "--match-set", "A", "src", "--return-nomatch"], "");
        let delete = BuiltinChange::Delete(input.clone(), lookup("A", ADDRESS));
        driver.apply(&Changes { builtin: vec![delete], ..Changes::default() }).unwrap();
        let left = &observe(&mut driver)[&input];
        assert_eq!(left[0], lookup("B", SERVICE));
        assert!(matches!(&left[1], ObservedRule::Verbatim(text) if text.starts_with("[set rev 4")), "{left:?}");
        assert_eq!(left.len(), 2);
    });
}
