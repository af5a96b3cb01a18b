use proptest::prelude::*;

use super::*;
use crate::kernel::ipset::SetName;
use crate::kernel::xtables::encode::{ONE, rule_text, unwritable};
use crate::kernel::xtables::testing::family_and_rule;
use crate::kernel::xtables::{CtStates, Direction, InterfaceMatch, Match, PortRange, RecentAction, Rule, Target};
use crate::net::{Endpoint, Protocol};

fn any_chain(name: &str) -> Option<ChainName> {
    Some(ChainName::new(name))
}

fn parse(family: Family, text: &str) -> Option<Rule> {
    RuleParser::new(family).parse(text, &any_chain)
}

fn chains(family: Family, text: &str) -> Result<Vec<(Table, ObservedChain)>, DecodeError> {
    let mut found = Vec::new();
    read_tables(family, &mut text.as_bytes(), &mut |table, chain| found.push((table, chain)))?;
    Ok(found)
}

proptest! {
    #[test]
    fn what_is_written_reads_back((family, rule) in family_and_rule()) {
        prop_assume!(unwritable(family, &rule).is_none());
        let text = rule_text(family, &rule);
        let parsed = parse(family, &text);
        prop_assert_eq!(parsed.as_ref(), Some(&rule), "{}", text);
    }

    #[test]
    fn every_probability_reads_back(probability in 0..=ONE) {
        let rule = Rule { matches: vec![Match::Random { probability }], ..Rule::default() };
        let text = rule_text(Family::V4, &rule);
        let exact = format!("{:.11}", f64::from(probability) / f64::from(ONE));
        prop_assert_eq!(&text, &format!("-m statistic --mode random --probability {exact}"));
        prop_assert_eq!(parse(Family::V4, &text), Some(rule));
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        parse(Family::V4, &text);
        chains(Family::V6, &text).ok();
        let wrapped = [b"*nat\n:A - [0:0]\n-A A ".as_slice(), &bytes, b"\nCOMMIT\n"].concat();
        read_tables(Family::V4, &mut wrapped.as_slice(), &mut |_, _| ()).ok();
    }

    /// No word is skipped: without it the text is another rule, or none.
    #[test]
    fn every_word_counts((family, rule) in family_and_rule(), at in any::<prop::sample::Index>()) {
        let text = rule_text(family, &rule);
        prop_assume!(unwritable(family, &rule).is_none() && !text.is_empty() && !text.contains('"'));
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words.remove(at.index(words.len()));
        prop_assert_ne!(parse(family, &words.join(" ")), Some(rule));
    }
}

#[test]
fn habits_of_other_versions() {
    let endpoint = |text: &str| Some(Target::Dnat(Endpoint::new(text.parse().unwrap(), 80)));
    for (family, text, matches, target) in [
        (
            Family::V4,
            "-m statistic --mode random --probability 0.33333333349",
            vec![Match::Random { probability: 715_827_883 }],
            None,
        ),
        (Family::V4, "-m nfacct --nfacct-name  x", vec![Match::Nfacct("x".into())], None),
        (Family::V4, "-m nfacct --nfacct-name x", vec![Match::Nfacct("x".into())], None),
        (Family::V6, "-j DNAT --to-destination [fd00::1]:80", vec![], endpoint("fd00::1")),
        (Family::V6, "-j REJECT --reject-with icmp6-port-unreachable", vec![], Some(Target::Reject)),
        (Family::V4, "-j MARK --set-xmark 0x4000/0x0", vec![], Some(Target::Mark { value: 0x4000, mask: 0 })),
        (Family::V4, "-m mark --mark 0x4000", vec![Match::Mark { invert: false, value: 0x4000, mask: u32::MAX }], None),
        (
            Family::V4,
            "-m conntrack --ctstate RELATED,ESTABLISHED",
            vec![Match::CtState { invert: false, states: CtStates::RELATED.with(CtStates::ESTABLISHED) }],
            None,
        ),
    ] {
        let rule = Rule { matches, target, ..Rule::default() };
        assert_eq!(parse(family, text), Some(rule), "{text}");
    }
    let lookup = parse(Family::V6, "-m set ! --match-set KUBE-6-LOOP-BACK dst,dst,src -j MASQUERADE").unwrap();
    let directions = [Direction::Destination, Direction::Destination, Direction::Source].into();
    let set = SetName::new("KUBE-6-LOOP-BACK");
    assert_eq!(lookup.matches, [Match::Set { invert: true, set, directions }]);
    let numbered = parse(Family::V4, "-p 132 -m sctp --dport 7").unwrap();
    assert_eq!(rule_text(Family::V4, &numbered), "-p sctp -m sctp --dport 7");
}

#[test]
fn what_is_not_understood_is_not_a_rule() {
    for text in [
        "-s 10.0.0.0/255.0.255.0",
        "! -s 0.0.0.0/0",
        "-s fd00::/8",
        "-s 10.0.0.0/33",
        "! -p tcp",
        "-p 47",
        "-p tcp -p tcp",
        "-p udp -m tcp --dport 80",
        "-m tcp --dport 80",
        "-p tcp -m tcp --dport 80 --tcp-flags SYN SYN",
        "-p tcp -m tcp --dport 90:80",
        "-p tcp -m tcp --dport 65536",
        "-f",
        "-m multiport --dports 80,443",
        "-m statistic --mode nth --every 3 --packet 0",
        "-m statistic --mode random ! --probability 0.25",
        "-m statistic --mode random --probability 1.5",
        "-m statistic --mode random --probability nan",
        "-m recent --update --seconds 5 --name X --mask 255.255.255.255 --rsource",
        "-m recent --rcheck --name X --mask 255.255.255.255 --rsource",
        "-m recent --rcheck --seconds 5 --hitcount 3 --name X --mask 255.255.255.255 --rsource",
        "-m recent --rcheck --seconds 5 --name X --mask 255.255.255.0 --rsource",
        "-m recent --rcheck --seconds 5 --name X --mask 255.255.255.255 --rdest",
        "-m recent ! --rcheck --seconds 5 --name X --mask 255.255.255.255 --rsource",
        "-m addrtype --src-type LOCAL --limit-iface-in",
        "-m addrtype --src-type UNICAST",
        "-m conntrack --ctstate NEW --ctproto 6",
        "-m conntrack --ctstate NEW,FRESH",
        "-m set --match-set A",
        "-m set --match-set A any",
        "-m set --match-set A dst,",
        "-m set --match-set A dst,dst,dst,dst",
        "-m set --match-set A dst dst",
        "-m set --match-set A dst --return-nomatch",
        "-m set --match-set A dst ! --update-counters",
        "-m set --match-set A dst --packets-gt 3",
        "-m set --match-set NAME-OF-THIRTY-TWO-BYTES--------X dst",
        "-m set --match-set \"A B\" dst",
        "-m set --set A dst",
        "-m mark --mark 16384",
        "-m comment --comment \"a\"b",
        "-m comment --comment \"a",
        "-m comment",
        "-m quota --quota 5",
        "-j DNAT --to-destination 10.0.0.1",
        "-j DNAT --to-destination 10.0.0.1:80-90",
        "-j DNAT --to-destination 10.0.0.1-10.0.0.9:80",
        "-j DNAT --to-destination 10.0.0.1:80 --random",
        "-j DNAT --to-destination [fd00::1]:80",
        "-j MASQUERADE --to-ports 5-9",
        "-j MASQUERADE --random",
        "-j REJECT --reject-with tcp-reset",
        "-j REJECT --reject-with icmp6-port-unreachable",
        "-j ACCEPT -p tcp",
        "-j \"ACCEPT\"",
        "-j LOG --log-prefix \"x -j ACCEPT\"",
        "-j",
        "ACCEPT",
        "! -j ACCEPT",
    ] {
        assert_eq!(parse(Family::V4, text), None, "{text}");
    }
}

#[test]
fn a_table_is_read_chain_by_chain() {
    let text = "# Generated by iptables-nft-save v1.8.9 (nf_tables) on Sat Nov 21 03:04:37 2026\n\
                *raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j NOTRACK\nCOMMIT\n\
                *nat\n:PREROUTING ACCEPT [12:960]\n:KUBE-A - [0:0]\n:KUBE-EMPTY - [0:0]\n\
                [3:180] -A PREROUTING -j KUBE-A\n-A PREROUTING -j TRACE\n-A KUBE-A\n-A KUBE-A -p tcp -j ACCEPT\nCOMMIT\n\
                # Completed on Sat Nov 21 03:04:37 2026\n";
    let found = chains(Family::V4, text).unwrap();
    let jump = Rule { target: Some(Target::Jump(ChainName::new("KUBE-A"))), ..Rule::default() };
    let accept = Rule { protocol: Some(Protocol::Tcp), target: Some(Target::Accept), ..Rule::default() };
    let chain = |name: &str, builtin, rules| (Table::Nat, ObservedChain { name: ChainName::new(name), builtin, rules });
    assert_eq!(
        found,
        [
            // TRACE is no chain of this table, so it is not understood.
            chain("PREROUTING", true, vec![jump.into(), ObservedRule::Verbatim("-j TRACE".into())]),
            chain("KUBE-A", false, vec![Rule::default().into(), accept.into()]),
            chain("KUBE-EMPTY", false, vec![]),
        ]
    );
}

#[test]
fn scattered_rules_are_gathered_or_refused() {
    let text = "*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j B\n-A B -j ACCEPT\n-A A -j RETURN\nCOMMIT\n";
    assert!(matches!(chains(Family::V4, text), Err(DecodeError::Scattered { line: 6, chain }) if chain == "A"));
    let mut sizes = Vec::new();
    read_scattered(Family::V4, &mut text.as_bytes(), &mut |_, chain| {
        sizes.push((chain.name.to_string(), chain.rules.len()));
    })
    .unwrap();
    assert_eq!(sizes, [("A".to_owned(), 2), ("B".to_owned(), 1)]);
}

#[test]
fn names_that_only_nft_makes_are_left_out() {
    let long = "x".repeat(29);
    let text = format!("*nat\n:A - [0:0]\n:{long} - [0:0]\n-A A -j {long}\n-A {long} -j ACCEPT\nCOMMIT\n");
    let found = chains(Family::V4, &text).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.rules, [ObservedRule::Verbatim(format!("-j {long}").into())]);
}

#[test]
fn bytes_that_are_no_text_are_kept_apart() {
    let text = b"*nat\n:A - [0:0]\n-A A -m comment --comment \"\xff\" -j ACCEPT\nCOMMIT\n";
    let mut rules = Vec::new();
    read_tables(Family::V4, &mut text.as_slice(), &mut |_, chain| rules.extend(chain.rules)).unwrap();
    assert!(matches!(&rules[..], [ObservedRule::Verbatim(_)]));
}

#[test]
fn output_that_is_not_whole_is_an_error() {
    let incompatible = "# Table `nat' is incompatible, use 'nft' tool.\n";
    assert!(matches!(chains(Family::V4, incompatible), Err(DecodeError::Incompatible { table }) if table == "nat"));
    assert!(matches!(chains(Family::V4, "*nat\n:A - [0:0]\n"), Err(DecodeError::Truncated)));
    for text in
        ["hello\n", "COMMIT\n", "*nat\nhello\nCOMMIT\n", "*nat\n-A UNKNOWN -j ACCEPT\nCOMMIT\n", "*nat\n:A\nCOMMIT\n"]
    {
        assert!(matches!(chains(Family::V4, text), Err(DecodeError::Malformed { .. })), "{text:?}");
    }
    assert_eq!(chains(Family::V4, "").unwrap(), []);
}

/// What a rule may hold as a value but no tool would write, and what fits just so.
#[test]
fn what_cannot_be_written_is_told() {
    let matching = |item| Rule { protocol: Some(Protocol::Tcp), matches: vec![item], ..Rule::default() };
    let from = |name: String| {
        let in_interface = Some(InterfaceMatch { invert: false, name: name.into() });
        Rule { in_interface, ..Rule::default() }
    };
    let ports = |protocol, first, last| {
        let range = PortRange { invert: false, first, last };
        matching(Match::Ports { protocol, source: None, destination: Some(range) })
    };
    let recent = |length, seconds| {
        let action = RecentAction::Check { seconds, reap: false };
        matching(Match::Recent { name: "x".repeat(length).into(), action })
    };
    let lookup = |name: &str, directions: usize| {
        let directions = vec![Direction::Destination; directions].into();
        matching(Match::Set { invert: false, set: SetName::new(name), directions })
    };
    for (rule, writable) in [
        (lookup(&"x".repeat(31), 1), true),
        (lookup("x", 3), true),
        (lookup("x", 0), false),
        (lookup("x", 4), false),
        (lookup("", 1), false),
        (lookup("x y", 1), false),
        (lookup("-x", 1), false),
        (from("x".repeat(15)), true),
        (from("x".repeat(16)), false),
        (ports(Protocol::Tcp, 0, u16::MAX - 1), true),
        (ports(Protocol::Tcp, 0, u16::MAX), false),
        (ports(Protocol::Tcp, 2, 1), false),
        (ports(Protocol::Udp, 1, 2), false),
        (recent(199, 1), true),
        (recent(200, 1), false),
        (recent(1, 0), false),
        (matching(Match::Nfacct("x".repeat(31).into())), true),
        (matching(Match::Nfacct("x".repeat(32).into())), false),
        (matching(Match::Comment("x".repeat(255).into())), true),
        (matching(Match::Comment("x".repeat(256).into())), false),
    ] {
        assert_eq!(unwritable(Family::V4, &rule).is_none(), writable, "{rule:?}");
    }
}
