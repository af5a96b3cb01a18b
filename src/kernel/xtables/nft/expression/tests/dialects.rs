//! The forms in which versions of iptables-nft write the same rule, and forms near to them that mean something else.

use super::*;
use wire::{bitwise, compare, meta, payload, verdict};
use write::{put_counter, put_expression, put_meta, put_payload, put_verdict};

/// `cmp`
fn cmp(list: &mut Body<'_>, op: u32, value: &[u8]) {
    put_expression(list, "cmp", |inner| {
        inner.put_u32_be(1, 1).put_u32_be(2, op).nest(3, |data| _ = data.put(1, value));
    });
}

/// `range`
fn range(list: &mut Body<'_>, op: u32, first: &[u8], last: &[u8]) {
    put_expression(list, "range", |inner| {
        inner.put_u32_be(1, 1).put_u32_be(2, op);
        inner.nest(3, |data| _ = data.put(1, first)).nest(4, |data| _ = data.put(1, last));
    });
}

/// `bitwise`, with the operation that kernels since 5.6 name.
fn mask(list: &mut Body<'_>, mask: &[u8]) {
    xor_mask(list, mask, &vec![0; mask.len()], bitwise::MASK_XOR);
}

fn xor_mask(list: &mut Body<'_>, mask: &[u8], xor: &[u8], op: u32) {
    put_expression(list, "bitwise", |inner| {
        inner.put_u32_be(1, 1).put_u32_be(2, 1).put_u32_be(3, mask.len() as u32);
        inner.nest(4, |data| _ = data.put(1, mask)).nest(5, |data| _ = data.put(1, xor)).put_u32_be(6, op);
    });
}

fn eq(list: &mut Body<'_>, value: &[u8]) {
    cmp(list, compare::EQUAL, value);
}

fn ne(list: &mut Body<'_>, value: &[u8]) {
    cmp(list, compare::NOT_EQUAL, value);
}

fn tcp(list: &mut Body<'_>) {
    put_payload(list, payload::NETWORK, payload::IPV4_PROTOCOL, 1);
    eq(list, &[6]);
}

fn comment(list: &mut Body<'_>, text: &str) {
    let mut info = [0; 256];
    info[..text.len()].copy_from_slice(text.as_bytes());
    put_expression(list, "match", |inner| _ = inner.put_text(1, "comment").put_u32_be(2, 0).put(3, &info));
}

fn destination_port(list: &mut Body<'_>) {
    put_payload(list, payload::TRANSPORT, payload::DESTINATION_PORT, 2);
}

type Fill = fn(&mut Body<'_>);

#[test]
fn other_forms_of_our_rules() {
    let cases: &[(Family, &str, Fill)] = &[
        // 1.8.2 to 1.8.5: a mask of all ones.
        (Family::V4, "-d 10.0.0.1/32", |list| {
            put_payload(list, 1, 16, 4);
            mask(list, &[255; 4]);
            eq(list, &[10, 0, 0, 1]);
        }),
        // 1.8.7 and newer: only the bytes of the prefix.
        (Family::V4, "! -s 10.244.0.0/16", |list| {
            put_payload(list, 1, 12, 2);
            ne(list, &[10, 244]);
        }),
        (Family::V6, "-d fd00:10::/32", |list| {
            put_payload(list, 1, 24, 4);
            eq(list, &[0xfd, 0, 0, 0x10]);
        }),
        (Family::V6, "-s fd00::/9", |list| {
            put_payload(list, 1, 8, 16);
            mask(list, &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            eq(list, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }),
        // 1.8.2 to 1.8.9: the protocol as a meta key.
        (Family::V4, "-p udp", |list| {
            put_meta(list, meta::L4PROTO);
            eq(list, &[17]);
        }),
        // 1.8.10 and newer: addresses before interfaces.
        (Family::V4, "-d 10.0.0.1/32 -i cni0 -p tcp", |list| {
            put_payload(list, 1, 16, 4);
            eq(list, &[10, 0, 0, 1]);
            put_meta(list, meta::IIFNAME);
            eq(list, b"cni0\0");
            tcp(list);
        }),
        // `nft` fills a name up.
        (Family::V4, "! -o cni0", |list| {
            put_meta(list, meta::OIFNAME);
            ne(list, b"cni0\0\0\0\0\0\0\0\0\0\0\0\0");
        }),
        (Family::V4, "-i veth+", |list| {
            put_meta(list, meta::IIFNAME);
            eq(list, b"veth");
        }),
        // `-i +` up to 1.8.10, and `! -i +` of newer ones.
        (Family::V4, "-j ACCEPT", |list| {
            put_meta(list, meta::IIFNAME);
            put_counter(list);
            put_verdict(list, verdict::ACCEPT, None);
        }),
        (Family::V4, "! -i +", |list| {
            put_meta(list, meta::IIFNAME);
            eq(list, b"INVAL/D\0");
        }),
        // 1.8.8 and newer: native ports and marks, where their match stands on the command line.
        (Family::V4, "-p tcp -m comment --comment x -m tcp --sport 5 --dport 80:90 -m comment --comment y", |list| {
            tcp(list);
            comment(list, "x");
            put_payload(list, 2, 0, 2);
            eq(list, &5u16.to_be_bytes());
            comment(list, "y");
            destination_port(list);
            range(list, compare::EQUAL, &80u16.to_be_bytes(), &90u16.to_be_bytes());
        }),
        (Family::V4, "-p tcp -m tcp --sport 5 --dport 80", |list| {
            tcp(list);
            put_payload(list, 2, 0, 4);
            eq(list, &[0, 5, 0, 80]);
        }),
        (Family::V6, "-p udp -m udp ! --dport 80:90", |list| {
            put_meta(list, meta::L4PROTO);
            eq(list, &[17]);
            destination_port(list);
            range(list, compare::NOT_EQUAL, &80u16.to_be_bytes(), &90u16.to_be_bytes());
        }),
        (Family::V4, "-p tcp -m tcp --sport 0:5 ! --dport 0:5", |list| {
            tcp(list);
            put_payload(list, 2, 0, 2);
            cmp(list, compare::LESS_OR_EQUAL, &[0, 5]);
            destination_port(list);
            cmp(list, compare::GREATER, &[0, 5]);
        }),
        (Family::V4, "-p tcp -m tcp ! --sport 5:65535 --dport 5:65535", |list| {
            tcp(list);
            put_payload(list, 2, 0, 2);
            cmp(list, compare::LESS, &[0, 5]);
            destination_port(list);
            cmp(list, compare::GREATER_OR_EQUAL, &[0, 5]);
        }),
        (Family::V4, "-m mark ! --mark 0x4000/0x4000", |list| {
            put_meta(list, meta::MARK);
            mask(list, &0x4000u32.to_ne_bytes());
            ne(list, &0x4000u32.to_ne_bytes());
        }),
        (Family::V4, "-m mark --mark 0x4000", |list| {
            put_meta(list, meta::MARK);
            eq(list, &0x4000u32.to_ne_bytes());
        }),
        // The counter may be first, have no content, or be missing.
        (Family::V4, "-p tcp -j DROP", |list| {
            put_counter(list);
            tcp(list);
            put_verdict(list, verdict::DROP, None);
        }),
        (Family::V4, "-j DROP", |list| {
            list.nest(1, |element| _ = element.put_text(1, "counter"));
            put_verdict(list, verdict::DROP, None);
        }),
        (Family::V4, "-j DROP", |list| put_verdict(list, verdict::DROP, None)),
        (Family::V4, "", |_| ()),
    ];
    for (family, text, fill) in cases {
        let list = written(*fill);
        assert_eq!(read_rule(*family, Attributes::new(&list)), rule(*family, text), "{text}");
    }
}

#[test]
fn forms_that_mean_something_else() {
    let cases: &[(&str, Fill)] = &[
        // A wrong protocol, or none, for the ports.
        ("[nft ports without protocol]", |list| {
            destination_port(list);
            eq(list, &[0, 80]);
        }),
        ("-p sctp -m sctp --dport 80", |list| {
            put_meta(list, meta::L4PROTO);
            eq(list, &[132]);
            destination_port(list);
            eq(list, &[0, 80]);
        }),
        ("-p tcp -m udp", |list| {
            tcp(list);
            put_expression(list, "match", |inner| {
                inner
                    .put_text(1, "udp")
                    .put_u32_be(2, 0)
                    .put(3, &[0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
            });
        }),
        // "Not both" is printed as "neither" by the tools that write it so.
        ("-p tcp [nft transport header 0/4 != 00050050]", |list| {
            tcp(list);
            put_payload(list, 2, 0, 4);
            ne(list, &[0, 5, 0, 80]);
        }),
        ("-p tcp -m tcp --dport 80 -m tcp --dport 81", |list| {
            tcp(list);
            for port in [80, 81] {
                destination_port(list);
                eq(list, &[0, port]);
            }
        }),
        ("-p tcp [nft transport header 2/2 == 0000-ffff]", |list| {
            tcp(list);
            destination_port(list);
            range(list, compare::EQUAL, &[0, 0], &[255, 255]);
        }),
        ("-p tcp [nft transport header 13/1 & 02 != 00]", |list| {
            tcp(list);
            put_payload(list, 2, 13, 1);
            mask(list, &[2]);
            ne(list, &[0]);
        }),
        // Addresses: holes in the mask, bits outside of it, another length, a part of the address.
        ("[nft network header 16/4 & ff00ff00 == 0a000000]", |list| {
            put_payload(list, 1, 16, 4);
            mask(list, &[255, 0, 255, 0]);
            eq(list, &[10, 0, 0, 0]);
        }),
        ("[nft network header 16/4 & ffff0000 == 0a000001]", |list| {
            put_payload(list, 1, 16, 4);
            mask(list, &[255, 255, 0, 0]);
            eq(list, &[10, 0, 0, 1]);
        }),
        ("[nft network header 16/4 & 00000000 != 00000000]", |list| {
            put_payload(list, 1, 16, 4);
            mask(list, &[0; 4]);
            ne(list, &[0; 4]);
        }),
        ("[nft network header 16/4 == 0a00]", |list| {
            put_payload(list, 1, 16, 4);
            eq(list, &[10, 0]);
        }),
        ("[nft network header 17/3 == 0a0000]", |list| {
            put_payload(list, 1, 17, 3);
            eq(list, &[10, 0, 0]);
        }),
        ("[nft network header 16/4 < 0a000000]", |list| {
            put_payload(list, 1, 16, 4);
            cmp(list, compare::LESS, &[10, 0, 0, 0]);
        }),
        ("-s 10.0.0.1/32 -s 10.0.0.1/32", |list| {
            for _ in 0..2 {
                put_payload(list, 1, 12, 4);
                eq(list, &[10, 0, 0, 1]);
            }
        }),
        // Two masks, a mask that flips bits, another operation, a mask of nothing.
        ("[nft network header 16/2 & ffff & ff00] [nft == 0a00]", |list| {
            put_payload(list, 1, 16, 2);
            mask(list, &[255, 255]);
            mask(list, &[255, 0]);
            eq(list, &[10, 0]);
        }),
        ("[nft network header 16/2 bitwise", |list| {
            put_payload(list, 1, 16, 2);
            xor_mask(list, &[255, 255], &[0, 1], bitwise::MASK_XOR);
            eq(list, &[10, 0]);
        }),
        ("[nft network header 16/2 bitwise", |list| {
            put_payload(list, 1, 16, 2);
            xor_mask(list, &[255, 255], &[0, 0], 1);
            eq(list, &[10, 0]);
        }),
        ("[nft & ff]", |list| mask(list, &[255])),
        ("[nft == 06]", |list| eq(list, &[6])),
        // Loaded and forgotten; a name with a plus, an empty one.
        ("[nft network header 16/4]", |list| put_payload(list, 1, 16, 4)),
        ("[nft iifname == 6574682b00]", |list| {
            put_meta(list, meta::IIFNAME);
            eq(list, b"eth+\0");
        }),
        ("[nft iifname == 00]", |list| {
            put_meta(list, meta::IIFNAME);
            eq(list, b"\0");
        }),
        ("[nft iifname == 610062]", |list| {
            put_meta(list, meta::IIFNAME);
            eq(list, b"a\0b");
        }),
        ("[nft meta 4 == 00000001]", |list| {
            put_meta(list, 4);
            eq(list, &[0, 0, 0, 1]);
        }),
        ("[nft l4proto != 06]", |list| {
            put_meta(list, meta::L4PROTO);
            ne(list, &[6]);
        }),
        ("[nft l4proto == 2f]", |list| {
            put_meta(list, meta::L4PROTO);
            eq(list, &[47]);
        }),
        // Behind the verdict, other verdicts, targets that are chains, other expressions.
        ("-j DROP -p tcp", |list| {
            put_verdict(list, verdict::DROP, None);
            tcp(list);
        }),
        ("-j DROP -j ACCEPT", |list| {
            put_verdict(list, verdict::DROP, None);
            put_verdict(list, verdict::ACCEPT, None);
        }),
        ("[nft verdict 3]", |list| put_verdict(list, 3, None)),
        ("-j ACCEPT", |list| put_verdict(list, verdict::JUMP, Some(&ChainName::new("ACCEPT")))),
        ("-g a b", |list| put_verdict(list, verdict::GOTO, Some(&ChainName::new("a b")))),
        ("-j a-name-that-is-longer-than-any-that-xtables-knows", |list| {
            put_expression(list, "immediate", |inner| {
                inner.put_u32_be(1, 0).nest(2, |data| {
                    data.nest(2, |inner| {
                        inner.put_u32_be(1, verdict::JUMP as u32);
                        inner.put_text(2, "a-name-that-is-longer-than-any-that-xtables-knows");
                    });
                });
            });
        }),
        ("[nft limit 0800010001020304]", |list| put_expression(list, "limit", |inner| _ = inner.put(1, &[1, 2, 3, 4]))),
        ("-j [TRACE rev 0, ]", |list| {
            put_expression(list, "target", |inner| _ = inner.put_text(1, "TRACE").put_u32_be(2, 0).put(3, &[]));
        }),
        ("", |list| {
            put_counter(list);
            put_counter(list);
        }),
        // Another register; a store instead of a load.
        ("[nft meta", |list| put_expression(list, "meta", |inner| _ = inner.put_u32_be(1, 2).put_u32_be(2, 6))),
        ("[nft meta", |list| put_expression(list, "meta", |inner| _ = inner.put_u32_be(2, 3).put_u32_be(3, 1))),
        ("[nft malformed", |list| _ = list.nest(1, |element| _ = element.put_u32(2, 0))),
        ("[nft malformed", |list| _ = list.put(2, &[])),
        // One line, whatever a comment holds.
        ("-m comment --comment \"a\\nb\"", |list| comment(list, "a\nb")),
    ];
    for (text, fill) in cases {
        let list = written(*fill);
        match read_rule(Family::V4, Attributes::new(&list)) {
            ObservedRule::Verbatim(found) => assert!(found.starts_with(text), "{found}\n{text}"),
            ObservedRule::Known(rule) => panic!("{text}: {rule:?}"),
        }
    }
}
