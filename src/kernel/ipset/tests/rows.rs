//! Scenarios, by their rows.

use super::*;

const V4: Family = Family::V4;
const V6: Family = Family::V6;

fn one(spec: SetSpec, texts: &[&str]) -> Wanted {
    [(SetName::new("KUBE-A"), (spec, entries(spec, texts)))].into()
}

fn there(spec: SetSpec, texts: &[&str]) -> ObservedSet {
    ObservedSet { name: SetName::new("KUBE-A"), spec: Ok(spec), entries: entries(spec, texts) }
}

#[test]
fn l31_to_l43_entries_that_differ() {
    for (row, set_type, family, current, wanted, added, removed) in [
        ("L31", SetType::HashIpPort, V4, &[][..], &["172.17.0.4,tcp:80"][..], &["172.17.0.4,tcp:80"][..], &[][..]),
        ("L32", SetType::HashIpPort, V6, &["fd00::4,tcp:80"], &["fd00::4,tcp:80"], &[], &[]),
        (
            "L33",
            SetType::HashIpPort,
            V4,
            &["172.17.0.5,udp:53"],
            &["172.17.0.4,tcp:80", "172.17.0.5,tcp:80"],
            &["172.17.0.4,tcp:80", "172.17.0.5,tcp:80"],
            &["172.17.0.5,udp:53"],
        ),
        (
            "L34",
            SetType::HashIpPortIp,
            V4,
            &["172.17.0.4,tcp:80,172.17.0.4"],
            &["172.17.0.4,tcp:80,172.17.0.4"],
            &[],
            &[],
        ),
        (
            "L35",
            SetType::HashIpPortIp,
            V6,
            &["fd00::4,tcp:80,fd00::4"],
            &["fd00::5,tcp:80,fd00::5"],
            &["fd00::5,tcp:80,fd00::5"],
            &["fd00::4,tcp:80,fd00::4"],
        ),
        (
            "L36",
            SetType::HashIpPortIp,
            V4,
            &[],
            &["172.17.0.4,tcp:80,172.17.0.4", "172.17.0.5,tcp:80,172.17.0.5"],
            &["172.17.0.4,tcp:80,172.17.0.4", "172.17.0.5,tcp:80,172.17.0.5"],
            &[],
        ),
        (
            "L37",
            SetType::HashIpPortNet,
            V4,
            &[],
            &["172.17.0.4,tcp:80,172.17.0.0/16", "172.17.0.5,tcp:80,172.17.0.0/16"],
            &["172.17.0.4,tcp:80,172.17.0.0/16", "172.17.0.5,tcp:80,172.17.0.0/16"],
            &[],
        ),
        ("L38", SetType::HashIpPortNet, V6, &["fd00::4,tcp:80,fd00::/64"], &["fd00::4,tcp:80,fd00::/64"], &[], &[]),
        ("L39", SetType::HashIpPort, V6, &["fd00::4,tcp:80"], &[], &[], &["fd00::4,tcp:80"]),
        ("L40", SetType::BitmapPort, V4, &["80"], &[], &[], &["80"]),
        ("L41", SetType::BitmapPort, V4, &["80"], &["8080", "9090"], &["8080", "9090"], &["80"]),
        ("L42", SetType::BitmapPort, V4, &["80", "81", "82", "83"], &["9090"], &["9090"], &["80", "81", "82", "83"]),
        ("L43", SetType::HashIpPort, V4, &[], &["172.17.0.4,sctp:80"], &["172.17.0.4,sctp:80"], &[]),
        ("L43, IPv6", SetType::HashIpPort, V6, &["fd00::4,sctp:80"], &["fd00::4,sctp:80"], &[], &[]),
    ] {
        let spec = spec(set_type, family);
        let changes = compare(&one(spec, wanted), [&there(spec, current)], &|_| true).changes;
        let found = changes.sets.get(&SetName::new("KUBE-A")).cloned();
        let expected = SetChange {
            before: Some(spec),
            after: Some(spec),
            add: entries(spec, added),
            remove: entries(spec, removed).into_keys().collect(),
        };
        assert_eq!(found, (!expected.is_nothing()).then_some(expected), "{row}");
    }
}

/// A network of one address has the same text as the address and is the same entry.
#[test]
fn networks_of_one_address_are_equal() {
    let spec = spec(SetType::HashIpPortNet, V4);
    let wanted = one(spec, &["10.0.0.1,tcp:80,10.0.0.1/32"]);
    assert_eq!(compare(&wanted, [&there(spec, &["10.0.0.1,tcp:80,10.0.0.1"])], &|_| true), Compared::default());
}

#[test]
fn comments_that_differ_are_added_again() {
    let spec = SetSpec { comments: true, ..spec(SetType::HashIp, V4) };
    let mut wanted = one(spec, &["10.0.0.1", "10.0.0.2"]);
    let ip = entry(SetType::HashIp, V4, "10.0.0.1").unwrap();
    let comment = Some(Arc::from("x"));
    wanted.values_mut().for_each(|(_, entries)| drop(entries.insert(ip, comment.clone())));
    let changes = compare(&wanted, [&there(spec, &["10.0.0.1", "10.0.0.2"])], &|_| true).changes;
    assert_eq!(changes.sets[&SetName::new("KUBE-A")].add, Entries::from([(ip, comment)]));
}

#[test]
fn sets_come_go_and_stay() {
    let hash = spec(SetType::HashIp, V4);
    let named = |name: &str, spec| ObservedSet { name: SetName::new(name), spec, entries: Entries::new() };
    let found = [
        named("KUBE-OLD", Ok(hash)),
        named("KUBE-ODD", Err("list:set".into())),
        named("OTHER", Ok(hash)),
        named("KUBE-A", Ok(hash)),
    ];
    let wanted = one(hash, &[]);
    let Compared { changes, mismatches } = compare(&wanted, &found, &|name| name.starts_with("KUBE-"));
    let gone = |before| SetChange { before, ..SetChange::default() };
    let expected = [(SetName::new("KUBE-ODD"), gone(None)), (SetName::new("KUBE-OLD"), gone(Some(hash)))];
    assert_eq!((changes.sets, mismatches), (expected.into(), vec![]));
    let Compared { changes, .. } = compare(&wanted, &found[..3], &|_| false);
    let made = SetChange { after: Some(hash), ..SetChange::default() };
    assert_eq!(changes.sets, [(SetName::new("KUBE-A"), made)].into());
}

#[test]
fn a_set_of_another_type_or_family_is_told() {
    let wanted = one(spec(SetType::HashIpPort, V4), &["10.0.0.1,tcp:80"]);
    for (found, text) in [
        (Ok(spec(SetType::HashIp, V4)), "hash:ip of IPv4"),
        (Ok(spec(SetType::HashIpPort, V6)), "hash:ip,port of IPv6"),
        (Err("list:set".into()), "list:set"),
        (Err("hash:ip with options that weir does not use".into()), "hash:ip with options that weir does not use"),
    ] {
        let found = ObservedSet { spec: found, ..there(spec(SetType::HashIp, V4), &[]) };
        let Compared { changes, mismatches } = compare(&wanted, [&found], &|_| true);
        assert!(changes.is_empty());
        assert_eq!(
            mismatches[0].to_string(),
            format!(
                "the ipset KUBE-A is there as {text}, and it must be hash:ip,port of IPv4; remedy: delete the rules \
                 that look in it, then `ipset destroy KUBE-A`: it is made anew"
            )
        );
    }
    // A bitmap's family is in its name only; one with other options is made anew.
    let bitmap = spec(SetType::BitmapPort, V6);
    let found = there(spec(SetType::BitmapPort, V4), &[]);
    assert_eq!(compare(&one(bitmap, &[]), [&found], &|_| true), Compared::default());
    let odd = ObservedSet { spec: Err("bitmap:port with options that weir does not use".into()), ..found };
    let Compared { changes, mismatches } = compare(&one(bitmap, &["80"]), [&odd], &|_| true);
    let anew = SetChange { after: Some(bitmap), add: entries(bitmap, &["80"]), ..SetChange::default() };
    assert_eq!((changes.sets, mismatches), ([(SetName::new("KUBE-A"), anew)].into(), vec![]));
}

#[test]
fn l46_l47_lines() {
    let mut text = String::new();
    for (number, set_type) in SetType::ALL.into_iter().enumerate() {
        let family = if number % 2 == 0 { V4 } else { V6 };
        let spec = SetSpec { set_type, family, comments: number > 3 };
        push_set(&mut text, &SetName::new(format!("A{number}")), &spec, &Entries::new());
    }
    let hash = SetSpec { comments: true, ..spec(SetType::HashIpPortNet, V4) };
    let entry = entry(SetType::HashIpPortNet, V4, "10.0.0.1,udp:53,10.0.0.0/8").unwrap();
    push_set(&mut text, &SetName::new("B"), &hash, &Entries::from([(entry, Some("a b".into()))]));
    let expected = "\
        create A0 hash:ip family inet hashsize 1024 maxelem 65536\n\
        create A1 hash:net family inet6 hashsize 1024 maxelem 65536\n\
        create A2 hash:ip,port family inet hashsize 1024 maxelem 65536\n\
        create A3 hash:ip,port,ip family inet6 hashsize 1024 maxelem 65536\n\
        create A4 hash:ip,port,net family inet hashsize 1024 maxelem 65536 comment\n\
        create A5 bitmap:port range 0-65535 comment\n\
        create B hash:ip,port,net family inet hashsize 1024 maxelem 65536 comment\n\
        add B 10.0.0.1,udp:53,10.0.0.0/8 comment \"a b\"\n";
    assert_eq!(text, expected);
}

#[test]
fn l48_an_empty_text_has_no_sets() {
    assert_eq!(parse(""), Ok(vec![]));
    assert_eq!(parse("\n# a comment\n\n"), Ok(vec![]));
    let [set] = &parse("create A hash:ip\n").unwrap()[..] else { panic!() };
    assert_eq!((&set.spec, set.entries.len()), (&Ok(spec(SetType::HashIp, V4)), 0));
}

#[test]
fn l49_ranges_of_ports() {
    let range = |text: &str| parse(&format!("create A bitmap:port range {text}\n"));
    let all = Ok(spec(SetType::BitmapPort, V4));
    assert_eq!(range("0-65535").unwrap()[0].spec, all);
    assert_eq!(range("65535-0").unwrap()[0].spec, all);
    for text in ["0-1023", "7-7"] {
        assert!(range(text).unwrap()[0].spec.is_err(), "{text}");
    }
    for text in ["0", "-", "1-", "-1", "1:2", "-1-2", "1--2", "0-65536", "a-b", "+1-2"] {
        let error = range(text).unwrap_err();
        assert_eq!(error.to_string(), format!("line 1: a range is two ports with a - between, not {text:?}"));
    }
    assert_eq!(range("").unwrap_err().to_string(), "line 1: the range is missing");
}

#[test]
fn l50_entries_that_are_none() {
    for (set_type, text) in [
        (SetType::HashIp, "10.0.0.256"),
        (SetType::HashIp, "fd00::1"),
        (SetType::HashIp, "10.0.0.1,tcp:80"),
        (SetType::HashIp, ""),
        (SetType::HashIpPort, "10.0.0.1"),
        (SetType::HashIpPort, "10.0.0.1,tcp:-1"),
        (SetType::HashIpPort, "10.0.0.1,tcp:65536"),
        (SetType::HashIpPort, "10.0.0.1,tcp:"),
        (SetType::HashIpPort, "10.0.0.1,TCP:80"),
        (SetType::HashIpPort, "10.0.0.1,icmp:80"),
        (SetType::HashIpPort, "10.0.0.1,:80"),
        (SetType::HashIpPort, "1-2-3-4,tcp:80"),
        (SetType::HashIpPortIp, "10.0.0.1,tcp:80,fd00::1"),
        (SetType::HashIpPortIp, "10.0.0.1,tcp:80,x"),
        (SetType::HashIpPortNet, "10.0.0.1,tcp:80,10.0.0.0/33"),
        (SetType::HashIpPortNet, "10.0.0.1,tcp:80,10.0.0.0/"),
        (SetType::HashIpPortNet, "10.0.0.1,tcp:80,10.0.0.0/0"),
        (SetType::HashNet, "0.0.0.0/0"),
        (SetType::BitmapPort, "-1"),
        (SetType::BitmapPort, "65536"),
        (SetType::BitmapPort, "tcp:80"),
        (SetType::BitmapPort, "+80"),
    ] {
        assert!(entry(set_type, V4, text).is_err(), "{set_type} {text}");
        let file = format!("create A {set_type}\n\nadd A {text}\n");
        assert_eq!(parse(&file).unwrap_err().line, 3, "{file}");
    }
    // Without a protocol it is TCP.
    let short = entry(SetType::HashIpPort, V4, "10.0.0.1,80");
    assert_eq!(short, entry(SetType::HashIpPort, V4, "10.0.0.1,tcp:80"));
}

#[test]
fn other_lines_are_told_by_their_number() {
    for (text, message) in [
        ("flush A\n", "line 1: a line begins with create or add, not with \"flush\""),
        ("\ncreate A hash:ip\ncreate A hash:ip\n", "line 3: the set A is there twice"),
        ("add A 10.0.0.1\n", "line 1: the set A was not created before"),
        ("create\n", "line 1: the name of the set is missing"),
        ("create A\n", "line 1: the type of the set is missing"),
        ("create A hash:ip family ipx\n", "line 1: the family is inet or inet6, not \"ipx\""),
        ("create A hash:ip maxelem many\n", "line 1: maxelem is a number, not \"many\""),
        ("create A hash:ip\nadd A\n", "line 2: the entry is missing"),
        ("create A hash:ip\nadd A 10.0.0.1 comment \"x\"\n", "line 2: the set A has no comments"),
        ("create A hash:ip comment\nadd A 10.0.0.1 comment x\n", "line 2: a comment is not in double quotes"),
        (
            "create NAME-OF-THIRTY-TWO-BYTES--------X hash:ip\n",
            "line 1: the name \"NAME-OF-THIRTY-TWO-BYTES--------X\" is longer than 31 bytes",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn what_weir_does_not_make_is_told_apart() {
    let text = "create A hash:ip timeout 60\nadd A 10.0.0.1 timeout 5\ncreate B list:set size 8\nadd B A\n\
                create C hash:net\nadd C 10.0.0.0/8 nomatch\nadd C 10.0.0.0/9\ncreate D hash:ip counters\n\
                add D 10.0.0.1 packets 1 bytes 2\n";
    let specs: Vec<_> = parse(text).unwrap().into_iter().map(|set| set.spec.map_err(String::from)).collect();
    let odd = |text: &str| Err(text.to_owned());
    assert_eq!(
        specs,
        [
            odd("hash:ip with options that weir does not use"),
            odd("list:set"),
            odd("hash:net with entries that weir does not make"),
            Ok(spec(SetType::HashIp, V4))
        ]
    );
}

#[test]
fn what_a_set_cannot_hold_is_told() {
    let hash = |set_type, family| SetSpec { comments: true, ..spec(set_type, family) };
    let net = |text: &str| Entry::Net(text.parse().unwrap());
    let tcp = crate::net::Protocol::Tcp;
    let ip = |text: &str| text.parse().unwrap();
    let of_zero = Entry::IpPortNet(ip("10.0.0.1"), tcp, 80, "0.0.0.0/0".parse().unwrap());
    for (spec, entry, comment, why) in [
        (hash(SetType::HashNet, V4), net("0.0.0.0/0"), None, "sets take no network of length 0"),
        (hash(SetType::HashNet, V6), net("::/0"), None, "sets take no network of length 0"),
        (hash(SetType::HashIpPortNet, V4), of_zero, None, "sets take no network of length 0"),
        (hash(SetType::HashNet, V4), net("10.0.0.1/8"), None, "bits behind its prefix"),
        (hash(SetType::HashNet, V4), net("fd00::/8"), None, "of the other family"),
        (hash(SetType::HashIp, V6), Entry::Ip(ip("10.0.0.1")), None, "of the other family"),
        (hash(SetType::HashIp, V4), Entry::Ip(ip("0.0.0.0")), None, "unspecified"),
        (hash(SetType::HashIpPort, V4), Entry::IpPort(ip("fd00::1"), tcp, 80), None, "of the other family"),
        (
            hash(SetType::HashIpPortIp, V4),
            Entry::IpPortIp(ip("10.0.0.1"), tcp, 80, ip("::1")),
            None,
            "of the other family",
        ),
        (hash(SetType::BitmapPort, V4), Entry::Ip(ip("10.0.0.1")), None, "of another type"),
        (hash(SetType::HashIp, V4), Entry::Port(80), None, "of another type"),
        (hash(SetType::BitmapPort, V4), Entry::Port(80), Some("a\"b".to_owned()), "double quote"),
        (hash(SetType::BitmapPort, V4), Entry::Port(80), Some("a\nb".to_owned()), "control character"),
        (hash(SetType::BitmapPort, V4), Entry::Port(80), Some(String::new()), "empty"),
        (hash(SetType::BitmapPort, V4), Entry::Port(80), Some("x".repeat(256)), "longer than 255 bytes"),
        (spec(SetType::BitmapPort, V4), Entry::Port(80), Some("x".to_owned()), "the set has none"),
    ] {
        let entries = Entries::from([(entry, comment.map(Arc::from))]);
        let error = check(&SetName::new("A"), &spec, &entries).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with(&format!("the ipset A cannot hold {entry}: ")), "{message}");
        assert!(message.contains(why) && error.kind() == crate::kernel::ApplyErrorKind::Refused, "{message}");
    }
    let longest = Entries::from([(Entry::Port(0), Some("x".repeat(255).into()))]);
    check(&SetName::new("A"), &hash(SetType::BitmapPort, V4), &longest).unwrap();
}
