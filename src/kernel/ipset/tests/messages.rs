//! Bytes.

use proptest::prelude::*;

use super::super::{decode, encode};
use super::*;
use crate::kernel::netlink::{Attributes, Batch, Refusal};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What is behind the headers of the only request.
#[cfg(target_endian = "little")]
fn written(fill: impl FnOnce(&mut Batch)) -> String {
    let mut batch = Batch::new("test");
    fill(&mut batch);
    assert_eq!(batch.len(), 1);
    batch.bytes()[20..].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sets as the kernel was seen to list them (6.18), each with one entry; made by `ipset` 7.17.
#[cfg(target_endian = "little")]
const CAPTURED: [(&str, &str); 9] = [
    (
        "create A hash:ip family inet\nadd A 10.0.0.1",
        "050001000700000006000200410000000c000300686173683a6970000500050002000000050004000600000006000b40000000003c000780\
         08001240000004000800134000010000050015000c00000008001140ab0cc385080019400000000008001a400000010008001840000000\
         0114000880100007800c000180080001000a000001",
    ),
    (
        "create B hash:net family inet6 comment\nadd B fd00::/64 comment \"a b\"",
        "050001000700000006000200420000000d000300686173683a6e657400000000050005000a000000050004000700000006000b40000100\
         004400078008001240000004000800134000010000050015000c00000008001140be9f2903080019400000000008001a400000054c0800\
         1840000000010800084000000010300008802c0007801800018014000200fd000000000000000000000000000000050003004000000008\
         001a0061206200",
    ),
    (
        "create C hash:ip,port family inet\nadd C 10.0.0.1,sctp:80",
        "0500010007000000060002004300000011000300686173683a69702c706f7274000000000500050002000000050004000700000006000b\
         40000200003c00078008001240000004000800134000010000050015000c00000008001140689cc015080019400000000008001a400000\
         0108080018400000000124000880200007800c000180080001000a00000106000440005000000500070084000000",
    ),
    (
        "create D hash:ip,port,ip family inet\nadd D 10.0.0.1,tcp:80,10.0.0.2",
        "0500010007000000060002004400000014000300686173683a69702c706f72742c6970000500050002000000050004000600000006000b\
         40000300003c00078008001240000004000800134000010000050015000c00000008001140bbffad04080019400000000008001a400000\
         01080800184000000001300008802c0007800c000180080001000a0000010c001480080001000a00000206000440005000000500070006\
         000000",
    ),
    (
        "create E hash:ip,port,net family inet\nadd E 10.0.0.1,udp:53,10.0.0.0/8",
        "0500010007000000060002004500000015000300686173683a69702c706f72742c6e657400000000050005000200000005000400080000\
         0006000b40000400003c00078008001240000004000800134000010000050015000c0000000800114015a43c4d08001940000000000800\
         1a4000000208080018400000000138000880340007800c000180080001000a0000010c001480080001000a000000060004400035000005\
         001500080000000500070011000000",
    ),
    (
        "create WEIR-6-P bitmap:port range 0-65535\nadd WEIR-6-P 30000",
        "05000100070000000d000200574549522d362d5000000000100003006269746d61703a706f727400050005000000000005000400030000\
         0006000b40000500002c000780060004400000000006000540ffff0000080019400000000008001a400000204808001840000000011000\
         08800c0007800600044075300000",
    ),
    (
        "create G hash:net family inet\nadd G 10.0.0.0/8 nomatch",
        "050001000700000006000200470000000d000300686173683a6e65740000000005000500020000000500040007000000\
         06000b40000600003c00078008001240000004000800134000010000050015000c000000080011403da18964080019400000000008001a\
         40000001f8080018400000000124000880200007800c000180080001000a00000005000300080000000800084000000004",
    ),
    (
        "create H hash:ip timeout 60",
        "050001000700000006000200480000000c000300686173683a6970000500050002000000050004000600000006000b4000070000440007\
         8008001240000004000800134000010000050015000c00000008001140340ffbce080019400000000008001a40000000d8080018400000\
         0000080006400000003c04000880",
    ),
    (
        "create I list:set",
        "050001000700000006000200490000000d0003006c6973743a736574000000000500050000000000050004000300000006000b40000800\
         00240007800800174000000008080019400000000008001a4000000050080018400000000004000880",
    ),
];

fn read(bytes: &[u8]) -> Option<ObservedSet> {
    let attributes = Attributes::new(bytes);
    let decode::Header { name, spec, .. } = decode::header(&attributes)?;
    let found: Option<Vec<_>> =
        spec.as_ref().ok().map(|spec| decode::entries(*spec, &attributes)).into_iter().flatten().collect();
    let spec = match (&spec, &found) {
        (Ok(spec), None) => Err(format!("{} with entries that weir does not make", spec.set_type).into()),
        _ => spec,
    };
    Some(ObservedSet { name, spec, entries: found.into_iter().flatten().collect() })
}

#[test]
#[cfg(target_endian = "little")]
fn captured_lists_are_what_was_made() {
    for (text, captured) in CAPTURED {
        assert_eq!(read(&bytes(captured)), parse(text).unwrap().pop(), "{text}");
    }
}

#[test]
#[cfg(target_endian = "little")]
fn requests_are_those_of_the_tool() {
    let name = SetName::new("haship");
    let hash = spec(SetType::HashIp, Family::V6);
    // The tool asks for the newest revision that it knows.
    assert_eq!(
        written(|batch| encode::create(batch, &name, &hash, 65_536)),
        "05000100070000000b000200686173686970\
         00000c000300686173683a6970000500040004000000050005000a000000\
         140007800800124000000400080013400001\
         0000"
    );
    let hash = spec(SetType::HashIpPortNet, Family::V4);
    let added = entries(hash, &["10.0.0.1,tcp:80,10.0.0.0/8", "10.0.0.2,tcp:80,10.0.0.0/8"]);
    let added: Vec<encode::Commented<'_>> = added.keys().map(|entry| (entry, None)).collect();
    // The order of attributes and the numbers of lines are our own.
    assert_eq!(
        written(|batch| encode::put_entries(batch, encode::Deed::Add, &SetName::new("E"), &added)),
        "050001000700000006000200450000000800090000000000\
         7c000880\
         3c0007800c000180080001400a000001060004400050000005000700060000000c001480080001400a000000050015000800000008000900\
         01000000\
         3c0007800c000180080001400a000002060004400050000005000700060000000c001480080001400a000000050015000800000008000900\
         02000000"
    );
}

/// However long the comments are, an attribute's length has 16 bits.
#[test]
fn many_entries_are_cut() {
    let owned: Vec<(Entry, String)> =
        (0..3_000).map(|port| (Entry::Port(port), "x".repeat(usize::from(port) % 256))).collect();
    let all: Vec<encode::Commented<'_>> = owned.iter().map(|(entry, text)| (entry, Some(text.as_str()))).collect();
    let mut rest = &all[..];
    let mut requests = 0;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(encode::portion(rest));
        let mut batch = Batch::new("test");
        encode::put_entries(&mut batch, encode::Deed::Add, &SetName::new("A"), now);
        assert!(!batch.too_long() && batch.size() < 64 << 10);
        requests += 1;
        rest = later;
    }
    assert!((5..20).contains(&requests), "{requests}");
    assert_eq!(encode::portion(&[]), 0);
}

#[test]
fn the_refused_entry_is_read_from_the_answer() {
    let entries: Vec<Entry> = (0..5).map(Entry::Port).collect();
    let entries: Vec<encode::Commented<'_>> = entries.iter().map(|entry| (entry, None)).collect();
    let mut batch = Batch::new("test");
    encode::put_entries(&mut batch, encode::Deed::Add, &SetName::new("x".repeat(31)), &entries);
    let mut echo = batch.bytes()[16..80].to_vec();
    let at = echo.windows(4).position(|header| header[..2] == 8u16.to_ne_bytes() && header[2..] == 9u16.to_ne_bytes());
    let at = at.unwrap() + 4;
    echo[at..at + 4].copy_from_slice(&3u32.to_ne_bytes());
    let refusal = |echo: &[u8]| Refusal { code: 4352, text: None, offset: None, echo: echo.into() };
    assert_eq!(decode::refused_entry(&refusal(&echo)), Some(2));
    assert_eq!(decode::refused_entry(&refusal(&echo[..20])), None);
    assert_eq!(decode::refused_entry(&refusal(&[])), None);
    // Its number is one of nothing.
    echo[at..at + 4].copy_from_slice(&0u32.to_ne_bytes());
    assert_eq!(decode::refused_entry(&refusal(&echo)), None);
}

fn look(bytes: &[u8]) {
    let attributes = || Attributes::new(bytes);
    read(bytes);
    decode::name(attributes());
    decode::protocol(attributes());
    for set_type in SetType::ALL {
        for family in Family::ALL {
            decode::entries(spec(set_type, family), &attributes()).for_each(drop);
        }
    }
    decode::refused_entry(&Refusal { code: 1, text: None, offset: None, echo: bytes.into() });
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        look(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), lines in proptest::collection::vec("(create|add) A( hash:ip| hash:net| family| comment| \"x\"| 10.0.0.1| range| 0-1| ,){0,5}", 0..4)) {
        parse(&text).ok();
        parse(&lines.join("\n")).ok();
    }
}

#[cfg(target_endian = "little")]
proptest! {
    #[test]
    fn damaged_lists_never_panic(
        which in 0..CAPTURED.len(),
        end in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes(CAPTURED[which].1);
        look(&bytes[..end.index(bytes.len())]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        look(&bytes);
    }
}
