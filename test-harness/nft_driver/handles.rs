//! What stays the same is not touched: rules keep their handles and counters.

use weir::kernel::xtables::{ChainChange, Changes, Rule, Xtables};

use crate::namespace::{alone, nat, note, tool, written};

fn rules(words: &str) -> Vec<Rule> {
    words.split_whitespace().map(note).collect()
}

#[test]
fn one_rule_is_added_replaced_or_deleted_by_its_handle() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        return weir::lab::skipped("handles: nft is not installed");
    }
    alone("handles", |mut driver| {
        let chain = "KUBE-SVC-A";
        driver.apply(&written(vec![(nat(chain), rules("one two three"))])).unwrap();
        let raw = |chain| tool("nft", &["-a", "list", "chain", "ip", "nat", chain], "");
        let count = |text: &str| text.matches("# handle").count();
        let first = raw(chain);
        assert_eq!(count(&first), 4, "{first}");
        let numbers = |text: &str| -> Vec<u32> {
            let rules = text.lines().filter(|line| line.contains("counter"));
            rules.map(|line| line.rsplit("# handle ").next().unwrap().trim().parse().unwrap()).collect()
        };
        let [one, two, three] = numbers(&first)[..] else { panic!("{first}") };

        let mut change = |words: &str| {
            let before = driver.written().messages;
            let after = ChainChange { before: None, after: Some(rules(words)) };
            driver.apply(&Changes { chains: [(nat(chain), after)].into(), ..Changes::default() }).unwrap();
            (numbers(&raw(chain)), driver.written().messages - before)
        };
        assert_eq!(change("one two three"), (vec![one, two, three], 0));
        assert_eq!(change("one 2 three"), (vec![one, two, three], 1), "a replaced rule keeps its handle");
        assert_eq!(change("one three"), (vec![one, three], 1));
        let (added, messages) = change("one two three");
        assert_eq!((added[0], added[2], messages), (one, three, 1));
        assert_eq!(change("").0, Vec::<u32>::new());
    });
}
