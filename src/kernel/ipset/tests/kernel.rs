//! A real kernel.

use super::super::encode;
use super::*;
use crate::kernel::ApplyErrorKind;

fn name(text: &str) -> SetName {
    SetName::new(text)
}

/// The difference that is about one set.
fn change(set: &str, before: Option<SetSpec>, after: Option<SetSpec>, add: Entries, remove: &[Entry]) -> Changes {
    let change = SetChange { before, after, add, remove: remove.iter().copied().collect() };
    Changes { sets: [(name(set), change)].into() }
}

/// As many entries as are asked for.
fn many(count: u32) -> Entries {
    (0..count)
        .map(|number| {
            let ip = std::net::IpAddr::V4((0x0a00_0001 + number).into());
            (Entry::IpPort(ip, crate::net::Protocol::Tcp, 80), None)
        })
        .collect()
}

/// `maxelem` of a set, as the tool prints it.
fn room_of(set: &str) -> u32 {
    let text = ipset(&format!("list -t {set}"), "").unwrap();
    let (_, rest) = text.split_once("maxelem ").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

const HASH: SetSpec = SetSpec { set_type: SetType::HashIpPort, family: Family::V4, comments: false };

#[test]
fn l46_sets_are_made_as_kube_proxy_makes_them() {
    beside_the_tool("parameters", |mut driver| {
        for (number, set_type) in SetType::ALL.into_iter().enumerate() {
            for family in Family::ALL {
                let spec = spec(set_type, family);
                let set = if family == Family::V6 { format!("KUBE-6-{number}") } else { format!("KUBE-{number}") };
                driver.apply(&change(&set, None, Some(spec), Entries::new(), &[])).unwrap();
                let inet = if family == Family::V6 { "inet6" } else { "inet" };
                let options = match set_type {
                    SetType::BitmapPort => format!("{set_type} range 0-65535"),
                    _ => format!("{set_type} family {inet} hashsize 1024 maxelem 65536"),
                };
                assert_eq!(ipset(&format!("save {set}"), "").unwrap(), format!("create {set} {options}\n"));
                // What kube-proxy runs at each of its syncs.
                ipset(&format!("create {set} {options} -exist"), "").unwrap();
            }
        }
        assert_eq!(observe(&mut driver).len(), 12);
    });
}

/// L47: what is so already is no error; the set that is gone is.
#[test]
fn l47_entries_come_and_go() {
    beside_the_tool("entries", |mut driver| {
        let some = entries(HASH, &["10.0.0.1,tcp:80", "10.0.0.2,udp:53"]);
        let keys: Vec<Entry> = some.keys().copied().collect();
        driver.apply(&change("A", None, Some(HASH), some.clone(), &[])).unwrap();
        driver.apply(&change("A", Some(HASH), Some(HASH), some.clone(), &[])).unwrap();
        assert_eq!(observe(&mut driver)[&name("A")].entries, some);
        for _ in 0..2 {
            driver.apply(&change("A", Some(HASH), Some(HASH), Entries::new(), &keys)).unwrap();
            assert_eq!(observe(&mut driver)[&name("A")].entries, Entries::new());
        }
        for _ in 0..2 {
            driver.apply(&change("A", Some(HASH), None, Entries::new(), &[])).unwrap();
            assert!(observe(&mut driver).is_empty());
        }
        let error = driver.apply(&change("A", Some(HASH), Some(HASH), some, &[])).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Busy);
        assert!(error.message.starts_with("the ipset A is gone: "), "{error}");
    });
}

#[test]
fn only_the_sets_that_are_asked_for_are_read() {
    beside_the_tool("names", |mut driver| {
        ipset("restore", "create OTHER hash:ip\nadd OTHER 10.0.0.1\ncreate KUBE-A hash:ip\ncreate L list:set\n")
            .unwrap();
        let mut found = Vec::new();
        driver.observe(&|name| name.starts_with("KUBE-"), &mut |set| found.push(set.name)).unwrap();
        assert_eq!(found, [name("KUBE-A")]);
        let all = observe(&mut driver);
        assert_eq!(all[&name("L")].spec, Err("list:set".into()));
        assert_eq!(all, saved());
    });
}

/// More than fit a message, and more than kube-proxy's sets hold.
#[test]
fn a_set_gets_room_for_what_it_is_to_hold() {
    beside_the_tool("room", |mut driver| {
        let all = many(70_000);
        driver.apply(&change("A", None, Some(HASH), all.clone(), &[])).unwrap();
        assert_eq!(room_of("A"), 131_072);
        assert!(observe(&mut driver)[&name("A")].entries == all);
    });
}

/// Rules see all entries all the time: the larger set takes the place of the full one, and the rules' reference with it.
#[test]
fn a_set_that_is_full_grows() {
    beside_the_tool("growth", |mut driver| {
        let half = many(65_536);
        driver.apply(&change("A", None, Some(HASH), half.clone(), &[])).unwrap();
        assert_eq!(room_of("A"), 65_536);
        ipset("restore", "create L list:set\nadd L A\n").unwrap();
        let all = many(65_600);
        let gone = *all.keys().next().unwrap();
        let more: Entries =
            all.iter().filter(|(entry, _)| !half.contains_key(entry)).map(|(e, c)| (*e, c.clone())).collect();
        driver.apply(&change("A", Some(HASH), Some(HASH), more, &[gone])).unwrap();
        let mut expected = all;
        expected.remove(&gone);
        assert_eq!(room_of("A"), 131_072);
        let found = observe(&mut driver);
        assert!(found[&name("A")].entries == expected);
        assert_eq!(found.len(), 2, "no temporary set is left");
        assert!(ipset("destroy A", "").is_err(), "the list refers to it");
    });
}

/// What comes and what is there together are too many, what stays is not: kube-proxy's `create -exist` takes no other room.
#[test]
fn a_set_that_is_full_meanwhile_keeps_its_room() {
    beside_the_tool("replaced", |mut driver| {
        let before = many(40_000);
        driver.apply(&change("A", None, Some(HASH), before.clone(), &[])).unwrap();
        let after: Entries = many(80_000).into_iter().skip(40_000).collect();
        let keys: Vec<Entry> = before.into_keys().collect();
        driver.apply(&change("A", Some(HASH), Some(HASH), after.clone(), &keys)).unwrap();
        assert_eq!(room_of("A"), 65_536);
        assert!(observe(&mut driver)[&name("A")].entries == after);
    });
}

#[test]
fn a_set_of_another_type_is_told_with_the_remedy() {
    beside_the_tool("another type", |mut driver| {
        ipset("restore", "create A hash:ip\nadd A 10.0.0.9\ncreate B hash:ip,port family inet6\n").unwrap();
        let some = entries(HASH, &["10.0.0.1,tcp:80"]);
        for (set, found) in [("A", "hash:ip of IPv4"), ("B", "hash:ip,port of IPv6")] {
            for before in [None, Some(HASH)] {
                let mut changes = change(set, before, Some(HASH), some.clone(), &[]);
                // The other sets are changed nevertheless.
                let other = SetChange { after: Some(HASH), add: some.clone(), ..SetChange::default() };
                changes.sets.insert(name("C"), other);
                let error = driver.apply(&changes).unwrap_err();
                assert_eq!(error.kind, ApplyErrorKind::Refused, "{error}");
                let start =
                    format!("the ipset {set} is there as {found}, and it must be hash:ip,port of IPv4; remedy: ");
                assert!(error.message.starts_with(&start), "{error}");
                assert!(error.message.contains(&format!("`ipset destroy {set}`")), "{error}");
                assert_eq!(observe(&mut driver)[&name("C")].entries, some);
            }
        }
        assert_eq!(observe(&mut driver).len(), 3, "no temporary set is left");
    });
}

/// Another program made it with options and entries that are not ours.
#[test]
fn a_set_of_the_right_type_is_made_anew() {
    beside_the_tool("other options", |mut driver| {
        let made = "create A hash:ip,port timeout 600\nadd A 10.0.0.9,tcp:80\n\
                    create B hash:ip,port\nadd B 10.0.0.9,udplite:80\nadd B 10.0.0.1,tcp:80\n\
                    create C hash:ip,port maxelem 5\nadd C 10.0.0.9,tcp:80\n\
                    create D bitmap:port range 0-100\ncreate L list:set\nadd L A\nadd L B\n";
        ipset("restore", made).unwrap();
        let ports = spec(SetType::BitmapPort, Family::V4);
        let wanted: Wanted = ["A", "B", "C"]
            .into_iter()
            .map(|set| (name(set), (HASH, many(10))))
            .chain([(name("D"), (ports, entries(ports, &["30000"])))])
            .collect();
        let mut found = observe(&mut driver);
        found.remove(&name("L"));
        driver.apply(&difference(&wanted, &found)).unwrap();
        ipset("destroy L", "").unwrap();
        assert_holds(&observe(&mut driver), &wanted, "made anew");
        assert_eq!(room_of("C"), 65_536);
    });
}

#[test]
fn comments_can_be_had_and_lost() {
    beside_the_tool("comments", |mut driver| {
        let plain = entries(HASH, &["10.0.0.1,tcp:80", "10.0.0.2,tcp:80"]);
        let commented = SetSpec { comments: true, ..HASH };
        let with: Entries = plain.keys().map(|entry| (*entry, Some(format!("for {entry}").into()))).collect();
        driver.apply(&change("A", None, Some(HASH), plain.clone(), &[])).unwrap();
        for (spec, entries) in [(commented, &with), (HASH, &plain), (commented, &plain)] {
            let wanted = [(name("A"), (spec, entries.clone()))].into();
            let changes = difference(&wanted, &observe(&mut driver));
            driver.apply(&changes).unwrap();
            assert_holds(&observe(&mut driver), &wanted, "comments");
            assert_eq!(saved(), observe(&mut driver));
        }
        // Another comment, and none again.
        let first = *plain.keys().next().unwrap();
        for comment in [Some("x"), Some("y"), None] {
            let add = Entries::from([(first, comment.map(Arc::from))]);
            driver.apply(&change("A", Some(commented), Some(commented), add.clone(), &[])).unwrap();
            assert_eq!(observe(&mut driver)[&name("A")].entries[&first], add[&first]);
        }
    });
}

#[test]
fn a_set_in_use_is_told() {
    beside_the_tool("in use", |mut driver| {
        ipset("restore", "create A hash:ip,port\ncreate B hash:ip,port\ncreate L list:set\nadd L A\n").unwrap();
        let mut changes = change("A", Some(HASH), None, Entries::new(), &[]);
        changes.sets.insert(name("B"), SetChange { before: Some(HASH), ..SetChange::default() });
        let error = driver.apply(&changes).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Refused);
        assert!(
            error.message.starts_with("the ipset A cannot be destroyed, because something refers to it"),
            "{error}"
        );
        assert!(!observe(&mut driver).contains_key(&name("B")), "the other one goes");
        // Who refers to it lets go soon after.
        std::thread::scope(|scope| {
            let netns = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            scope.spawn(move || {
                nix::sched::setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(200));
                ipset("del L A", "").unwrap();
            });
            driver.apply(&changes).unwrap();
        });
    });
}

/// Nobody can swap a set while somebody is in the midst of listing it.
#[test]
fn a_set_that_is_being_listed_is_waited_for() {
    beside_the_tool("listed", |mut driver| {
        driver.apply(&change("A", None, Some(HASH), many(20_000), &[])).unwrap();
        let mut socket = crate::kernel::netlink::Socket::open(crate::kernel::netlink::Protocol::Netfilter).unwrap();
        let mut batch = crate::kernel::netlink::Batch::new("list a set, slowly");
        encode::ask_entries(&mut batch, &name("A"));
        let mut dump = socket.dump(&mut batch).unwrap();
        dump.next_message().unwrap().unwrap();
        let error = driver.apply(&change("A", None, Some(HASH), many(5), &[])).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Busy, "{error}");
        assert!(error.message.contains("ipset A: something reads"), "{error}");
        while dump.next_message().unwrap().is_some() {}
        drop(dump);
        driver.apply(&change("A", None, Some(HASH), many(5), &[])).unwrap();
        assert_eq!(observe(&mut driver)[&name("A")].entries, many(5));
        assert_eq!(observe(&mut driver).len(), 1, "no temporary set is left");
    });
}

/// A process was killed while a set was made anew.
#[test]
fn a_temporary_set_that_was_left_is_no_hindrance() {
    beside_the_tool("left", |mut driver| {
        let left: String = (0..16).map(|number| format!("create {TEMPORARY}{number} hash:net\n")).collect();
        ipset("restore", &format!("{left}create A hash:ip,port\n")).unwrap();
        driver.apply(&change("A", None, Some(HASH), many(5), &[])).unwrap();
        assert_eq!(observe(&mut driver)[&name("A")].entries, many(5));
        assert_eq!(observe(&mut driver).len(), 16);
    });
}

/// Of many entries in one request, the one that is refused.
#[test]
fn the_entry_that_the_kernel_refuses_is_named() {
    beside_the_tool("refused", |mut driver| {
        ipset("create D bitmap:port range 0-100", "").unwrap();
        let ports = spec(SetType::BitmapPort, Family::V4);
        let some = entries(ports, &["1", "2", "99", "30000", "30001"]);
        let error = driver.apply(&change("D", Some(ports), Some(ports), some, &[])).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Refused);
        assert!(error.message.starts_with("cannot add 30000 to the ipset D: error 4352: "), "{error}");
        // Nothing is sent of what cannot be.
        let net = spec(SetType::HashNet, Family::V4);
        let all = Entries::from([(Entry::Net("0.0.0.0/0".parse().unwrap()), None)]);
        let error = driver.apply(&change("E", None, Some(net), all, &[])).unwrap_err();
        assert!(error.message.contains("0.0.0.0/1 and 128.0.0.0/1"), "{error}");
        assert_eq!(observe(&mut driver).len(), 1);
    });
}

/// What the checks refuse, the kernel does as well: they are no more than they must be.
#[test]
fn the_kernel_refuses_what_the_checks_refuse() {
    beside_the_tool("checks", |mut driver| {
        let net = spec(SetType::HashNet, Family::V4);
        let ip = spec(SetType::HashIp, Family::V4);
        for (spec, entry) in [
            (net, Entry::Net("0.0.0.0/0".parse().unwrap())),
            (ip, Entry::Ip("0.0.0.0".parse().unwrap())),
            (spec(SetType::HashIp, Family::V6), Entry::Ip("::".parse().unwrap())),
            (ip, Entry::Ip("fd00::1".parse().unwrap())),
        ] {
            let mut kernel = super::super::conversation::Conversation::open().unwrap();
            driver.apply(&change("A", None, Some(spec), Entries::new(), &[])).unwrap();
            assert!(unfit(&spec, &entry).is_some());
            let put = kernel.put(encode::Deed::Add, &name("A"), &spec, &[(&entry, None)]);
            assert!(matches!(put, Err(IpsetError::Refused { .. })), "{entry}: {put:?}");
            driver.apply(&change("A", Some(spec), None, Entries::new(), &[])).unwrap();
        }
    });
}

#[test]
fn sets_and_indexes() {
    beside_the_tool("indexes", |_| {
        ipset("restore", "create A hash:ip\ncreate B hash:ip\n").unwrap();
        let mut socket = crate::kernel::netlink::Socket::open(crate::kernel::netlink::Protocol::Netfilter).unwrap();
        let [a, b] = ["A", "B"].map(|set| index_of(&mut socket, &name(set)).unwrap().unwrap());
        assert_ne!(a, b);
        assert_eq!(name_of(&mut socket, a).unwrap(), Some(name("A")));
        assert_eq!(index_of(&mut socket, &name("C")).unwrap(), None);
        assert_eq!(name_of(&mut socket, 77).unwrap(), None);
        assert_eq!(name_of(&mut socket, INVALID_INDEX).unwrap(), None);
        // A name keeps its index.
        ipset("swap A B", "").unwrap();
        assert_eq!(index_of(&mut socket, &name("A")).unwrap(), Some(a));
    });
}

#[test]
fn a_kernel_that_speaks_another_protocol_is_told() {
    let error = IpsetError::Protocol { oldest: 6, newest: 6 };
    assert_eq!(
        error.to_string(),
        "the kernel speaks the ipset protocol in versions 6 to 6, weir in version 7; remedy: a kernel from Linux 4.20 on"
    );
    assert_eq!(error.kind(), ApplyErrorKind::Unavailable);
    assert_eq!(IpsetError::Absent.kind(), ApplyErrorKind::Unavailable);
}
