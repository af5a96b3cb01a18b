use super::super::text::{Problem, lines, parse, real_server_line, server_line};
use super::*;

fn round(text: &str) -> String {
    let servers = parse(text).unwrap();
    servers.iter().flat_map(lines).collect::<Vec<_>>().join("\n")
}

/// Lines as ipvsadm 1.31 printed them.
const SAVED: [&str; 14] = [
    "-A -t 10.96.0.1:80 -s rr -p 10800",
    "-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1",
    "-a -t 10.96.0.1:80 -r 10.244.0.3:8080 -m -w 0",
    "-A -t 10.96.0.2:80 -s rr -p 300 -M 255.255.255.0",
    "-A -t 10.96.0.4:80 -s rr -o",
    "-A -t 10.96.0.5:80 -s sh -b sh-fallback,sh-port",
    "-A -t 10.96.0.6:80 -s mh -b mh-port",
    "-A -t 10.96.0.7:80 -s rr -b flag-1,flag-3",
    "-A -t 10.96.0.8:80 -s mh -p 60 -M 255.255.0.0 -o -b mh-fallback",
    "-A -u [fd00::1]:53 -s rr -p 10800",
    "-a -u [fd00::1]:53 -r [fd00::9]:53 -g -w 2",
    "-A --sctp-service [fd00::2]:80 -s lc -p 60 -M 64 -b flag-3",
    "-a --sctp-service [fd00::2]:80 -r [fd00::9]:80 -i -w 9 --tun-type ipip",
    "-a --sctp-service [fd00::2]:80 -r [fd00::a]:80 -m -w 1",
];

#[test]
fn what_ipvsadm_prints_is_read_and_printed() {
    let text = SAVED.join("\n");
    assert_eq!(round(&text), text);
    let servers = parse(&text).unwrap();
    assert_eq!(servers.len(), 9);
    assert_eq!(servers[0].key, key("10.96.0.1:80/TCP"));
    assert_eq!(servers[0].real_servers[&endpoint("10.244.0.3:8080")].server, RealServer::active(0));
    assert_eq!(servers[1].server.prefix, 24);
}

#[test]
fn thresholds_are_printed_where_they_are_set() {
    let real = RealServer { upper_threshold: 1_800_000_000, ..RealServer::active(0) };
    let line = real_server_line(&key("10.96.0.1:80/TCP"), &endpoint("10.244.0.2:80"), &real);
    assert_eq!(line, "-a -t 10.96.0.1:80 -r 10.244.0.2:80 -m -w 0 -x 1800000000");
    let text = format!("-A -t 10.96.0.1:80 -s rr\n{line} -y 7");
    assert_eq!(round(&text), text);
}

#[test]
fn defaults_are_ipvsadms() {
    let text = "# saved\n\n-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.0.0.2:80\n-A -t 10.0.0.2:80 -p -s rr\n";
    let expected = "-A -t 10.0.0.1:80 -s wlc\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 1\n-A -t 10.0.0.2:80 -s rr -p 300";
    assert_eq!(round(text), expected);
}

#[test]
fn what_is_not_ours_to_know_is_passed_over_or_told() {
    let text = "-A -f 5 -s rr\n-a -f 5 -r 10.0.0.1:0 -g -w 1\n-A -f 6 -6 -s rr\n";
    assert_eq!(parse(text), Ok(vec![]));
    assert!(parse("-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip").unwrap()[0].unknown);
    let masks = parse("-A -u 10.0.0.1:5060 -s rr -p 60 -M 255.0.255.0").unwrap();
    assert!(masks[0].unknown);
}

#[test]
fn errors_name_the_line_and_the_remedy() {
    let first = "-A -t 10.0.0.1:80 -s rr\n";
    for (line, parts) in [
        ("-C", &["\"-C\"", "ipvsadm -Sn"][..]),
        ("-A", &["virtual server", "-t"]),
        ("-A -x 1", &["virtual server", "-t"]),
        ("-A -t", &["-t lacks"]),
        ("-A -t 10.0.0.9:http -s rr", &["\"10.0.0.9:http\"", "-t", "ipvsadm -Sn"]),
        ("-A -t 10.0.0.9 -s rr", &["\"10.0.0.9\"", "a port"]),
        ("-A -t 10.0.0.9:80 -s", &["-s lacks"]),
        ("-A -t 10.0.0.9:80 -s r/r", &["\"r/r\"", "15 letters"]),
        ("-A -t 10.0.0.9:80 -s rr -p x", &["\"x\"", "-p"]),
        ("-A -t 10.0.0.9:80 -s rr -p 4294967296", &["4294967296"]),
        ("-A -t 10.0.0.9:80 -s rr -M 24", &["\"24\"", "255.255.255.0"]),
        ("-A -t [fd00::1]:80 -s rr -M 0", &["\"0\"", "1 to 128"]),
        ("-A -t 10.0.0.9:80 -s rr -b sh-port", &["sh-port", "flag-1"]),
        ("-A -t 10.0.0.9:80 -s rr -b", &["-b lacks"]),
        ("-A -t 10.0.0.9:80 -s rr -w 1", &["\"-w\"", "not known"]),
        ("-A -t 10.0.0.1:80 -s wrr", &["10.0.0.1:80/TCP", "twice"]),
        ("-a -t 10.0.0.1:80 -m", &["-r"]),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -w -1", &["\"-1\"", "2147483647"]),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -w 2147483648", &["2147483648"]),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -z", &["\"-z\""]),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -i --tun-type gue --tun-port 6080", &["--tun-type gue", "leave"]),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2:80 -i --tun-csum", &["--tun-csum"]),
        ("-a -t 10.0.0.3:80 -r 10.0.0.2:80 -m", &["10.0.0.3:80/TCP", "-A"]),
    ] {
        let error = parse(&format!("{first}{line}\n")).unwrap_err();
        assert_eq!(error.line, 2, "{line}");
        let text = error.to_string();
        assert!(text.starts_with("line 2: ") && parts.iter().all(|part| text.contains(part)), "{line}: {text}");
    }
    let twice = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -w 2\n";
    let error = parse(twice).unwrap_err();
    assert!(matches!(error.problem, Problem::RealServerTwice { .. }) && error.line == 3, "{error}");
}

/// What a text can say: no mask without persistence, no flags beyond ipvsadm's.
fn sayable(mut server: VirtualServer, full: u8) -> VirtualServer {
    let known = [1, 4, 8, 16, 32].iter().sum::<u32>();
    server.flags = ServerFlags(server.flags.0 & known);
    if !server.flags.contains(ServerFlags::PERSISTENT) {
        (server.timeout, server.prefix) = (0, full);
    }
    server
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        (key, server) in keys().prop_flat_map(|key| (Just(key), virtual_servers(key.family()))),
        sh in any::<bool>(),
        reals in prop::collection::btree_map(endpoints(), real_servers(), 0..4),
    ) {
        let mut server = sayable(server, key.family().bits());
        if sh {
            server.scheduler = Scheduler::new("sh").unwrap();
        }
        let observed = |mut real: RealServer| {
            if matches!(real.forwarding, Forwarding::LocalNode | Forwarding::Bypass) {
                real.forwarding = Forwarding::DirectRoute;
            }
            ObservedRealServer { server: real, ..ObservedRealServer::default() }
        };
        let real_servers = reals.into_iter().map(|(at, real)| (at, observed(real))).collect();
        let expected = ObservedVirtualServer { key, server, unknown: false, real_servers };
        let text: Vec<String> = lines(&expected).collect();
        prop_assert_eq!(&text[0], &server_line(&key, &expected.server));
        prop_assert_eq!(parse(&text.join("\n")), Ok(vec![expected]));
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        words in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec!["-A", "-a", "-t", "-u", "-r", "-s", "-p", "-M", "-b", "-f", "-w", "\n"]),
                prop::sample::select(vec!["10.0.0.1:80", "[::1]:0", "rr", "5", "255.0.0.0", "flag-1"]),
            ].prop_map(str::to_owned).boxed().prop_union("\\PC{0,5}".boxed()),
            0..20,
        )
    ) {
        let _ = parse(&words.join(" "));
    }
}
