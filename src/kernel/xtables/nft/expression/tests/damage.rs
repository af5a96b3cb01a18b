//! Bytes that no kernel sends.

use super::*;

fn read(family: Family, bytes: &[u8]) -> ObservedRule {
    read_with(family, bytes, &SetIndexes::default())
}

fn read_with(family: Family, bytes: &[u8], sets: &SetIndexes) -> ObservedRule {
    let found = super::super::read_rule(family, Attributes::new(bytes), sets);
    if let ObservedRule::Verbatim(text) = &found {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    found
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        read(Family::V4, &bytes);
        read(Family::V6, &bytes);
    }

    /// What is cut off or changed somewhere never panics, and a rule that is cut off is not one of ours.
    #[test]
    fn damaged_rules_never_panic(
        (family, rule) in family_and_rule(),
        end in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        prop_assume!(unwritable(family, &rule).is_none());
        let mut bytes = expressions(family, &rule);
        let sets = sets(&rule);
        let end = end.index(bytes.len());
        // Between two expressions it is whole; where the padding is cut off, nothing is missing.
        if !is_border(&bytes, end) {
            prop_assert_ne!(read_with(family, &bytes[..end], &sets), rule);
        }
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_with(family, &bytes, &sets);
    }
}

fn is_border(bytes: &[u8], end: usize) -> bool {
    let whole = Attributes::new(&bytes[..end]);
    let mut rest = whole.clone();
    rest.by_ref().for_each(drop);
    rest.take_rest().is_empty()
}

/// Which bits of a rule say nothing: the flags of attribute types, padding (also as a longer text), and what the counter
/// counted.
fn idle_bits(bytes: &[u8]) -> Vec<u8> {
    let mut idle = vec![0; bytes.len()];
    let mut at = 0;
    for element in Attributes::new(bytes) {
        let name = element.nested().find(wire::expression::NAME).unwrap();
        mark_idle(&bytes[at..], &mut idle[at..], &[], name.text().unwrap());
        at += (4 + element.payload.len()).next_multiple_of(4);
    }
    idle
}

/// Marks one attribute. `path` are the types of those around it.
fn mark_idle(bytes: &[u8], idle: &mut [u8], path: &[u16], name: &str) {
    let attribute = Attributes::new(bytes).next().unwrap();
    let length = 4 + attribute.payload.len();
    // Little-endian: the flags are the upper bits of the second byte.
    idle[3] = 0xc0;
    idle[length..length.next_multiple_of(4).min(bytes.len())].fill(0xff);
    let path: Vec<u16> = path.iter().copied().chain([attribute.kind]).collect();
    let is_nested = match (&path[..], name) {
        ([1] | [1, 2], _) | ([1, 2, 2] | [1, 2, 2, 2], "immediate") => true,
        ([1, 2, kind], "cmp" | "bitwise") => *kind > 2 && !(name == "bitwise" && *kind == 3),
        _ => false,
    };
    let is_text =
        matches!((&path[..], name), ([1, 1], _) | ([1, 2, 1], "match" | "target") | ([1, 2, 2, 2, 2], "immediate"));
    if is_text {
        // What is behind a counter's name is idle as well.
        idle[0] = if name == "counter" { 0xff } else { 3 };
    } else if attribute.payload == b"cni0\0" {
        // More NULs behind the one that ends the name.
        idle[0] = 2;
    }
    if path == [1, 2] && name == "counter" {
        idle[..length].fill(0xff);
    } else if is_nested {
        let mut at = 4;
        while at < length {
            mark_idle(&bytes[at..length], &mut idle[at..length], &path, name);
            let inner = Attributes::new(&bytes[at..]).next().unwrap().payload.len();
            at += (4 + inner).next_multiple_of(4);
        }
    }
}

/// Every other bit counts: with it flipped, the rule is not the same.
#[test]
#[cfg(target_endian = "little")]
fn every_bit_counts() {
    for (family, text) in [
        (Family::V4, "! -s 10.1.0.0/16 -d 10.96.0.10/32 -i cni0 ! -o veth+ -p tcp -m tcp --dport 80 -j KUBE-SVC-A"),
        (Family::V6, "-s fd00::/56 ! -d fd00::a/128 -i cni0 -p udp -m udp ! --sport 5:6 --dport 53 -g KUBE-SVC-A"),
        (Family::V4, "-p sctp -m sctp --dport 80 -j DNAT --to-destination 10.0.0.1:80"),
        (Family::V6, "-p tcp -m tcp -j DNAT --to-destination [fd00::1]:80"),
        (Family::V4, "-m mark ! --mark 0x4000/0x4000 -m addrtype ! --src-type LOCAL --dst-type LOCAL -j RETURN"),
        (Family::V6, "-m conntrack ! --ctstate NEW,DNAT -m mark --mark 0x1 -j MARK --set-xmark 0x4000/0x0"),
        (Family::V4, "-m set ! --match-set KUBE-LOOP-BACK dst,dst,src -j RETURN"),
        (Family::V6, "-m set --match-set KUBE-6-IPVS-IPS dst -j RETURN"),
        (Family::V4, "-j MASQUERADE --random-fully"),
        (Family::V6, "-j MASQUERADE"),
        (Family::V4, "-j REJECT --reject-with icmp-port-unreachable"),
        (Family::V4, "-j ACCEPT"),
        (Family::V4, "-j DROP"),
    ] {
        let rule = rule(family, text);
        let good = expressions(family, &rule);
        let idle = idle_bits(&good);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let same = read_with(family, &bytes, &sets(&rule)) == rule;
                assert!(!same || idle[at] & (1 << bit) != 0, "{text}: bit {bit} of byte {at}");
            }
        }
    }
}
