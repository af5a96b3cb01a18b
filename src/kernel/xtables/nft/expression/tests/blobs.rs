//! Structures as the tools were seen to write them, for little-endian machines.
#![cfg(target_endian = "little")]

use super::*;
use crate::kernel::netlink::Attribute;

/// Bytes from hexadecimal digits, with `N*M` for M times the byte N.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
        let some: Vec<u8> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
        bytes.extend(some.repeat(times.parse().unwrap()));
    }
    bytes
}

/// Name, revision and structure of a rule's only extension.
fn extension(family: Family, rule: &Rule) -> (String, u32, Vec<u8>) {
    let list = expressions(family, rule);
    let attributes = |element: Attribute<'_>| {
        let name = element.nested().find(wire::expression::NAME).unwrap();
        let data = element.nested().find(wire::expression::DATA).unwrap().payload.to_vec();
        matches!(name.text(), Some("match" | "target")).then_some(data)
    };
    let found: Vec<Vec<u8>> = Attributes::new(&list).filter_map(attributes).collect();
    let [data] = &found[..] else { panic!("{} extensions", found.len()) };
    let [name, revision, info] = [1, 2, 3].map(|kind| Attributes::new(data).find(kind).unwrap());
    (name.text().unwrap().to_owned(), revision.u32_be().unwrap(), info.payload.to_vec())
}

#[test]
fn structures_are_those_of_the_tools() {
    let v4 = [
        ("-m comment --comment abc", "comment", 0, "616263 00*253"),
        ("-p tcp -m tcp --dport 80", "tcp", 0, "0000ffff 50005000 00*8"),
        ("-p tcp -m tcp", "tcp", 0, "0000ffff 0000ffff 00*8"),
        ("-p tcp -m tcp ! --dport 22", "tcp", 0, "0000ffff 16001600 00*3 02 00*4"),
        ("-p tcp -m tcp ! --sport 1:2 --dport 3", "tcp", 0, "01000200 03000300 00*3 01 00*4"),
        ("-p udp -m udp --dport 53", "udp", 0, "0000ffff 35003500 00*8"),
        ("-p udp -m udp ! --sport 53", "udp", 0, "35003500 0000ffff 01 00*7"),
        ("-p sctp -m sctp", "sctp", 0, "00*268 ff0000*4 00*16"),
        ("-p sctp -m sctp --dport 9", "sctp", 0, "09000900 00*264 ff0000*4 00*4 02000000 00*8"),
        ("-p sctp -m sctp ! --sport 9", "sctp", 0, "00*4 09000900 00*260 ff0000*4 00*4 01000000 01000000 00*4"),
        ("-m mark ! --mark 0x4000/0x4000", "mark", 1, "00400000 00400000 01 00*7"),
        ("-m mark --mark 0x4000", "mark", 1, "00400000 ffffffff 00*8"),
        ("-m statistic --mode random --probability 0.3333333333", "statistic", 0, "00*4 abaaaa2a 00*4 abaaaa2a 00*8"),
        ("-m addrtype --dst-type LOCAL", "addrtype", 1, "0000 0400 00000000"),
        ("-m addrtype ! --src-type LOCAL", "addrtype", 1, "0400 0000 01000000"),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", "conntrack", 3, "00*146 0100 0100 8600 00*16"),
        (
            "-m recent --rcheck --seconds 10800 --reap --name abc --mask 255.255.255.255 --rsource",
            "recent",
            1,
            "302a0000 00*4 21 00 616263 00*197 00*2 ff*16 00*4",
        ),
        (
            "-m recent --set --name abc --mask 255.255.255.255 --rsource",
            "recent",
            1,
            "00*8 02 00 616263 00*197 00*2 ff*16 00*4",
        ),
        ("-m nfacct --nfacct-name  abc", "nfacct", 1, "616263 00*37"),
        ("-m set --match-set a dst,src", "set", 4, "0700 02 04 00*44"),
        ("-m set ! --match-set a dst", "set", 4, "0700 01 01 00*44"),
        ("-m set ! --match-set a src,src,src", "set", 4, "0700 03 0f 00*44"),
        ("-j MARK --set-xmark 0x4000/0x4000", "MARK", 2, "00400000 00400000"),
        ("-j MARK --set-xmark 0x4000/0x0", "MARK", 2, "00400000 00000000"),
        ("-j MASQUERADE", "MASQUERADE", 0, "01000000 00*20"),
        ("-j MASQUERADE --random-fully", "MASQUERADE", 0, "01000000 10000000 00*16"),
        ("-j DNAT --to-destination 10.180.0.1:80", "DNAT", 2, "03000000 0ab40001 00*12 0ab40001 00*12 00500050 00*8"),
        ("-j REJECT --reject-with icmp-port-unreachable", "REJECT", 0, "03000000 00*4"),
    ];
    let v6 = [
        (
            "-m recent --set --name abc --mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff --rsource",
            "recent",
            1,
            "00*8 02 00 616263 00*197 00*2 ff*16 00*4",
        ),
        ("-j MASQUERADE --random-fully", "MASQUERADE", 0, "10000000 00*36"),
        ("-j DNAT --to-destination [fd00::1]:80", "DNAT", 2, "03000000 fd 00*14 01 fd 00*14 01 00500050 00*8"),
        ("-j REJECT --reject-with icmp6-port-unreachable", "REJECT", 0, "04000000 00*4"),
    ];
    for (family, table) in [(Family::V4, &v4[..]), (Family::V6, &v6[..])] {
        for (text, name, revision, info) in table {
            let expected = ((*name).to_owned(), *revision, bytes(info));
            assert_eq!(extension(family, &rule(family, text)), expected, "{text}");
        }
    }
}

fn one_match(name: &str, revision: u32, info: &[u8]) -> Vec<u8> {
    written(|list| {
        write::put_expression(list, "match", |inner| {
            inner.put_text(1, name).put_u32_be(2, revision).put(3, info);
        });
    })
}

/// Bytes that say nothing may be any.
#[test]
fn what_the_tools_and_the_kernel_leave_behind_is_passed_over() {
    for (family, text, info) in [
        // The rest of a longer default name.
        (
            Family::V4,
            "-m recent --set --name X --mask 255.255.255.255 --rsource",
            "00*8 02 00 5800 4641554c54 00*193 00*2 ff*16 00*4",
        ),
        // With `--mask` they set as much as the address has.
        (
            Family::V4,
            "-m recent --set --name X --mask 255.255.255.255 --rsource",
            "00*8 02 00 58 00*199 00*2 ff*4 00*16",
        ),
        (Family::V4, "-m statistic --mode random --probability 0.5", "00*4 00000040 00*16"),
        (Family::V4, "-m statistic --mode random --probability 0.5", "00*4 00000040 00*4 01*4 ff*8"),
        (Family::V4, "-m nfacct --nfacct-name abc", "616263 00*29 ff*8"),
    ] {
        let rule = rule(family, text);
        let (name, revision, _) = extension(family, &rule);
        assert_eq!(read_rule(family, Attributes::new(&one_match(&name, revision, &bytes(info)))), rule, "{info}");
    }
    let nfacct = one_match("nfacct", 0, &bytes("616263 00*37"));
    assert_eq!(read_rule(Family::V4, Attributes::new(&nfacct)), rule(Family::V4, "-m nfacct --nfacct-name abc"));
}

/// Fields that no rule of ours has.
#[test]
fn other_contents_are_foreign() {
    for (family, name, revision, info) in [
        (Family::V6, "recent", 1, "00*8 02 00 58 00*199 00*2 ff*4 00*16"),
        (Family::V4, "recent", 1, "00*8 02 00 58 00*199 01 00 ff*16 00*4"),
        (Family::V4, "recent", 1, "00*8 04 00 58 00*199 00*2 ff*16 00*4"),
        (Family::V4, "recent", 1, "01000000 02000000 01 00 58 00*199 00*2 ff*16 00*4"),
        (Family::V4, "recent", 0, "00*8 02 00 58 00*199 00*2 ff*16 00*4"),
        (Family::V4, "statistic", 0, "0100 0000 00000040 00*16"),
        (Family::V4, "statistic", 0, "0000 0100 00000040 00*16"),
        (Family::V4, "comment", 0, "61*256"),
        (Family::V4, "comment", 0, "0a 00*255"),
        (Family::V4, "comment", 0, "ff 00*255"),
        (Family::V4, "comment", 0, "61 00*254"),
        (Family::V4, "comment", 1, "61 00*255"),
        (Family::V4, "conntrack", 3, "00*146 0120 0000 0800 00*16"),
        (Family::V4, "conntrack", 3, "00*146 0100 0000 0000 00*16"),
        (Family::V4, "conntrack", 2, "00*146 0100 0000 0800 00*16"),
        (Family::V4, "conntrack", 3, "00*146 0300 0000 0800 00*16"),
        (Family::V4, "addrtype", 1, "0400 0000 04000000"),
        (Family::V4, "addrtype", 1, "0100 0000 00000000"),
        (Family::V4, "addrtype", 1, "0000 0000 00000000"),
        (Family::V4, "mark", 1, "00400000 00400000 02 00*7"),
        (Family::V4, "nfacct", 1, "612062 00*37"),
        (Family::V4, "nfacct", 2, "616263 00*37"),
        (Family::V4, "unknown", 0, ""),
    ] {
        let list = one_match(name, revision, &bytes(info));
        let found = read_rule(family, Attributes::new(&list));
        assert!(matches!(found, ObservedRule::Verbatim(_)), "{name} {info}: {found:?}");
    }
}

/// What else a lookup can ask for, and sets that are not there.
#[test]
fn other_lookups_are_foreign() {
    let mut sets = SetIndexes::default();
    sets.insert(SetName::new("a"), 7);
    let good = "0700 02 04 00*44";
    let read = |revision, info: &str| {
        super::super::read_rule(Family::V4, Attributes::new(&one_match("set", revision, &bytes(info))), &sets)
    };
    assert_eq!(read(4, good), rule(Family::V4, "-m set --match-set a dst,src"));
    for (revision, info) in [
        (4, "0800 02 04 00*44"),
        (4, "ffff 02 04 00*44"),
        (4, "0700 00 00 00*44"),
        (4, "0700 04 04 00*44"),
        (4, "0700 02 08 00*44"),
        (4, "0700 02 84 00*44"),
        // --return-nomatch, ! --update-counters, --packets-gt 3
        (4, "0700 01 02 00*36 80 00*7"),
        (4, "0700 01 02 00*36 08 00*7"),
        (4, "0700 01 02 00*4 03 00*7 04 00*31"),
        (4, "0700 02 04 00*36"),
        (4, "0700 02"),
        (4, "07"),
        (4, ""),
        (3, good),
        (1, "0700 02 04 00*4"),
    ] {
        let found = read(revision, info);
        assert!(matches!(found, ObservedRule::Verbatim(_)), "{revision} {info}: {found:?}");
    }
}

/// Whatever the revision: the kernel is asked for them.
#[test]
fn the_indexes_of_sets_are_found() {
    let one = |revision, info: &str| one_match("set", revision, &bytes(info));
    let list =
        [one(4, "0700 02 04 00*44"), one_match("comment", 0, &[0; 256]), one(1, "0102 02 04 00*4"), one(4, "01")];
    let found: Vec<u16> = set_indexes(Attributes::new(&list.concat())).collect();
    assert_eq!(found, [7, 0x201]);
}
