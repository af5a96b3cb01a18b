//! How long 100,000 entries take. `cargo test --release --lib ipset::tests::speed -- --ignored --nocapture`

use std::time::Instant;

use super::*;
use crate::net::Protocol;

const ENTRIES: u32 = 100_000;

#[test]
#[ignore = "a measurement"]
fn many_entries_by_us_and_by_the_tool() {
    beside_the_tool("speed", |mut driver| {
        let hash = spec(SetType::HashIpPort, Family::V4);
        let all: Entries = (0..ENTRIES)
            .map(|number| (Entry::IpPort(std::net::IpAddr::V4((0x0a00_0000 + number).into()), Protocol::Tcp, 80), None))
            .collect();
        let set = SetName::new("A");
        let change = SetChange { after: Some(hash), add: all.clone(), ..SetChange::default() };
        let changes = Changes { sets: [(set.clone(), change)].into() };
        let start = Instant::now();
        driver.apply(&changes).unwrap();
        let by_us = start.elapsed();

        let start = Instant::now();
        let seen = observe(&mut driver);
        let observed = start.elapsed();
        assert!(seen[&set].entries == all);

        let wanted = [(set.clone(), (hash, all.clone()))].into();
        let start = Instant::now();
        assert!(difference(&wanted, &seen).is_empty());
        let compared = start.elapsed();

        let one = all.iter().take(1).map(|(entry, comment)| (*entry, comment.clone())).collect();
        let one = SetChange { before: Some(hash), after: Some(hash), add: one, remove: BTreeSet::new() };
        let start = Instant::now();
        driver.apply(&Changes { sets: [(set.clone(), one)].into() }).unwrap();
        let single = start.elapsed();

        let mut text = String::new();
        push_set(&mut text, &SetName::new("B"), &hash, &all);
        let text = text.replace("maxelem 65536", "maxelem 131072");
        let start = Instant::now();
        ipset("restore", &text).unwrap();
        let by_tool = start.elapsed();
        eprintln!(
            "{ENTRIES} entries: apply {by_us:?}, `ipset restore` {by_tool:?}; observe {observed:?}, compare {compared:?}; \
             one entry {single:?}"
        );
    });
}
