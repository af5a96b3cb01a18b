//! How fast 320,000 rules are written and read. `cargo test --release --test xtables -- --ignored --nocapture`

use std::sync::Arc;
use std::time::Instant;

use weir::kernel::xtables::decode::read_tables;
use weir::kernel::xtables::encode::push_rule;
use weir::kernel::xtables::{ChainName, Match, NetMatch, ObservedRule, PortRange, Rule, Target};
use weir::net::{Endpoint, Family, Protocol};

const SERVICES: usize = 10_000;
const ENDPOINTS: usize = 10;

/// The chains of one service, 1 + 10 rules and 10 times 2, and its rule in KUBE-SERVICES.
fn service(i: usize) -> (Vec<(ChainName, Vec<Rule>)>, Rule) {
    let comment: Arc<str> = format!("ns-{i}/service-{i}:http").into();
    let noted = |text: Arc<str>| vec![Match::Comment(text)];
    let svc = ChainName::new(format!("KUBE-SVC-{i:016}"));
    let host = |n: usize| std::net::IpAddr::from([10, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    let to = |ip| Some(NetMatch { invert: false, net: ip });
    let mut first = Rule {
        destination: to(host(i).into()),
        protocol: Some(Protocol::Tcp),
        matches: noted(format!("{comment} cluster IP").into()),
        target: Some(Target::Jump(ChainName::new("KUBE-MARK-MASQ"))),
        ..Rule::default()
    };
    let ports = Match::Ports { protocol: Protocol::Tcp, source: None, destination: Some(PortRange::one(80)) };
    first.matches.push(ports);
    let dispatch = Rule { target: Some(Target::Jump(svc.clone())), ..first.clone() };
    let mut chains = vec![(svc, vec![first])];
    for j in 0..ENDPOINTS {
        let n = i * ENDPOINTS + j;
        let sep = ChainName::new(format!("KUBE-SEP-{n:016}"));
        let endpoint = Endpoint::new(host(n), 8080);
        let mut choose = Rule {
            matches: noted(format!("{comment} -> {endpoint}").into()),
            target: Some(Target::Jump(sep.clone())),
            ..Rule::default()
        };
        choose.matches.push(Match::Random { probability: (1u32 << 31) / (ENDPOINTS - j) as u32 });
        chains[0].1.push(choose);
        let masquerade = Rule {
            source: to(host(n).into()),
            matches: noted(comment.clone()),
            target: Some(Target::Jump(ChainName::new("KUBE-MARK-MASQ"))),
            ..Rule::default()
        };
        let plain = Match::Ports { protocol: Protocol::Tcp, source: None, destination: None };
        let dnat = Rule {
            protocol: Some(Protocol::Tcp),
            matches: vec![Match::Comment(comment.clone()), plain],
            target: Some(Target::Dnat(endpoint)),
            ..Rule::default()
        };
        chains.push((sep, vec![masquerade, dnat]));
    }
    (chains, dispatch)
}

#[test]
#[ignore = "a measurement"]
fn encode_and_decode_320_000_rules() {
    let (per_service, dispatch): (Vec<_>, Vec<_>) = (0..SERVICES).map(service).unzip();
    let mut chains: Vec<_> = per_service.into_iter().flatten().collect();
    chains.push((ChainName::new("KUBE-SERVICES"), dispatch));
    let rules: usize = chains.iter().map(|(_, rules)| rules.len()).sum();

    let start = Instant::now();
    let mut body = String::new();
    for (name, rules) in &chains {
        for rule in rules {
            body.push_str("-A ");
            body.push_str(name.as_str());
            push_rule(&mut body, Family::V4, rule);
            body.push('\n');
        }
    }
    let encoded = start.elapsed();

    let mut text = "*nat\n:KUBE-MARK-MASQ - [0:0]\n".to_owned();
    for (name, _) in &chains {
        text.push_str(&format!(":{name} - [0:0]\n"));
    }
    text.push_str(&body);
    text.push_str("COMMIT\n");
    let start = Instant::now();
    let mut known = 0;
    let is_known = |rule: &&ObservedRule| matches!(rule, ObservedRule::Known(_));
    read_tables(Family::V4, &mut text.as_bytes(), &mut |_, chain| known += chain.rules.iter().filter(is_known).count())
        .unwrap();
    let decoded = start.elapsed();
    assert_eq!(known, rules);
    let mb = text.len() / 1_000_000;
    eprintln!("{rules} rules, {mb} MB of text: encode {encoded:.0?}, decode {decoded:.0?}");
}
