use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use proptest::prelude::*;

use super::*;

/// The request "list UDP conntrack entries to 10.96.0.10" byte by byte, on a little-endian machine.
#[cfg(target_endian = "little")]
#[test]
fn a_request_is_laid_out_as_the_headers_say() {
    let mut batch = Batch::new("test");
    batch.message(nfnetlink::message_type(nfnetlink::Subsystem::Conntrack, 1), flags::ACK, |body| {
        body.raw(&nfnetlink::header(Some(crate::net::Family::V4), 0));
        body.nest(1, |body| {
            body.put_ip(4, IpAddr::from([10, 96, 0, 10])).put_u8(1, 17);
        });
        body.put_u16_be(3, 53);
    });
    batch.number(7);
    #[rustfmt::skip]
    let expected = [
        48, 0, 0, 0,  1, 1,  5, 0,  7, 0, 0, 0,  0, 0, 0, 0, // nlmsghdr: length, type, REQUEST|ACK, sequence, port
        2, 0, 0, 0,                                          // nfgenmsg: AF_INET
        20, 0, 1, 0x80,                                      // a nest of 20 bytes
        8, 0, 4, 0,  10, 96, 0, 10,
        5, 0, 1, 0,  17, 0, 0, 0,                            // one byte, three of padding
        6, 0, 3, 0,  0, 53, 0, 0,
    ];
    assert_eq!(batch.bytes(), expected);
}

#[test]
fn requests_are_packed_and_numbered() {
    let mut batch = Batch::new("test");
    for kind in 0..3 {
        batch.message(kind, 0, |body| {
            body.put(1, &vec![0; usize::from(kind)]);
        });
    }
    batch.number(u32::MAX);
    let mut bytes = batch.bytes();
    let mut sequences = Vec::new();
    while let Some((message, length)) = Message::read(bytes) {
        assert_eq!(message.kind as usize, sequences.len());
        sequences.push(message.sequence);
        bytes = &bytes[length..];
    }
    assert_eq!(sequences, [u32::MAX, 0, 1]);
    assert!(bytes.is_empty());
    batch.clear();
    assert!(batch.is_empty() && batch.size() == 0);
}

#[test]
fn what_does_not_fit_its_length_field_is_not_sent() {
    let mut batch = Batch::new("test");
    batch.message(16, 0, |body| {
        body.nest(1, |body| {
            body.put(1, &[0; 40_000]).put(2, &[0; 40_000]);
        });
    });
    assert!(batch.too_long());
    let mut socket = Socket::open(Protocol::Generic).unwrap();
    assert_eq!(socket.transact(&mut batch, |_, _| ()), Err(NetlinkError::TooLong { asked: "test" }));
}

#[test]
fn an_attribute_that_is_cut_off_ends_the_list() {
    let whole = [8u16.to_ne_bytes(), 3u16.to_ne_bytes(), [1, 2], [3, 4]].concat();
    assert_eq!(Attributes::new(&whole).count(), 1);
    for length in 0..whole.len() {
        assert_eq!(Attributes::new(&whole[..length]).count(), 0, "{length} bytes");
    }
    let shorter_than_its_header = [3u16.to_ne_bytes(), 3u16.to_ne_bytes()].concat();
    assert_eq!(Attributes::new(&shorter_than_its_header).count(), 0);
}

#[test]
fn a_value_of_the_wrong_length_is_none() {
    let attribute = Attribute { kind: 1, payload: &[1, 2, 3] };
    assert_eq!(attribute.u8(), None);
    assert_eq!(attribute.u16(), None);
    assert_eq!(attribute.u32_be(), None);
    assert_eq!(attribute.u64_be(), None);
    assert_eq!(attribute.ip(), None);
    assert_eq!(Attribute { kind: 1, payload: b"\xff" }.text(), None);
    assert_eq!(Attribute { kind: 1, payload: b"text\0rest" }.text(), Some("text"));
    assert_eq!(Attribute { kind: 1, payload: b"" }.text(), Some(""));
}

/// Builds the answer "refused" as the kernel does: code, the request or its header, and the explanation.
fn refusal(code: i32, echo: &[u8], capped: bool, explained: bool) -> Vec<u8> {
    let mut answer = Batch::new("answer");
    let answer_flags = if capped { 0x100 } else { 0 } | if explained { 0x200 } else { 0 };
    answer.message(message::ERROR, answer_flags, |body| {
        body.raw(&code.to_ne_bytes()).raw(if capped { &echo[..16] } else { echo });
        if explained {
            body.put_text(1, "Set is in use").put_u32(2, 20);
        }
    });
    answer.bytes().to_vec()
}

#[test]
fn refusals_are_explained() {
    let mut request = Batch::new("request");
    request.message(7, 0, |body| {
        body.put_text(1, "odd");
    });
    let plain = Refusal { code: 16, text: None, offset: None, echo: Box::default() };
    let explained = Refusal { code: 16, text: Some("Set is in use".into()), offset: Some(20), echo: Box::default() };
    for (capped, words, expected) in
        [(false, false, &plain), (true, false, &plain), (false, true, &explained), (true, true, &explained)]
    {
        let answer = refusal(-16, request.bytes(), capped, words);
        let (message, _) = Message::read(&answer).unwrap();
        let echo = if capped { &[] } else { &request.bytes()[16..] };
        let expected = Refusal { echo: echo.into(), ..expected.clone() };
        assert_eq!(message.acknowledgement(), Some(Err(expected)), "capped {capped}, explained {words}");
    }
    assert_eq!(explained.errno(), Errno::EBUSY);
    assert_eq!(
        NetlinkError::Refused { asked: "delete a set", refusal: explained }.to_string(),
        "cannot delete a set: the kernel refused: EBUSY: Device or resource busy: Set is in use (at byte 20 of the request)"
    );
    assert_eq!(Refusal { code: 4103, text: None, offset: None, echo: Box::default() }.to_string(), "error 4103");
    let answer = refusal(0, request.bytes(), true, false);
    assert_eq!(Message::read(&answer).unwrap().0.acknowledgement(), Some(Ok(())));
}

#[test]
fn a_dump_can_end_in_an_error() {
    let end = |code: &[u8]| {
        let mut answer = Batch::new("answer");
        answer.message(message::DONE, flags::MULTI, |body| {
            body.raw(code);
        });
        Message::read(answer.bytes()).unwrap().0.end_of_dump()
    };
    assert_eq!(end(&0i32.to_ne_bytes()), Ok(()));
    assert_eq!(end(&[]), Ok(()));
    assert_eq!(end(&(-105i32).to_ne_bytes()).unwrap_err().errno(), Errno::ENOBUFS);
}

// The generic netlink controller is in every kernel and answers anyone.

const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

fn ask_for_family(batch: &mut Batch, name: Option<&str>) {
    batch.message(CONTROLLER, 0, |body| {
        body.raw(&[GET_FAMILY, 2, 0, 0]);
        if let Some(name) = name {
            body.put_text(FAMILY_NAME, name);
        }
    });
}

fn family_id(message: &Message<'_>) -> Option<u16> {
    Attributes::new(message.payload.get(4..)?).find(FAMILY_ID)?.u16()
}

#[test]
fn the_kernel_answers_each_request_of_a_batch() {
    let mut socket = Socket::open(Protocol::Generic).unwrap();
    let mut batch = Batch::new("ask for families");
    ask_for_family(&mut batch, Some("nlctrl"));
    ask_for_family(&mut batch, Some("no-such-family"));
    ask_for_family(&mut batch, Some("nlctrl"));
    for _ in 0..2 {
        let mut answers = Vec::new();
        socket
            .transact(&mut batch, |index, answer| {
                answers.push(match answer {
                    Answer::Message(message) => (index, Ok(family_id(&message))),
                    Answer::Refused(refusal) => (index, Err(refusal.errno())),
                });
            })
            .unwrap();
        assert_eq!(answers, [(0, Ok(Some(CONTROLLER))), (1, Err(Errno::ENOENT)), (2, Ok(Some(CONTROLLER)))]);
    }
}

#[test]
fn a_dump_ends_and_can_be_left_early() {
    let mut socket = Socket::open(Protocol::Generic).unwrap();
    let mut batch = Batch::new("list families");
    ask_for_family(&mut batch, None);
    for take in [usize::MAX, 1, 0, usize::MAX] {
        let mut dump = socket.dump(&mut batch).unwrap();
        let mut ids = Vec::new();
        while ids.len() < take {
            let Some(message) = dump.next_message().unwrap() else { break };
            ids.push(family_id(&message));
        }
        assert!(take < usize::MAX || (ids.contains(&Some(CONTROLLER)) && !dump.interrupted()));
        drop(dump);
        let mut found = 0;
        let mut one = Batch::new("ask for a family");
        ask_for_family(&mut one, Some("nlctrl"));
        socket.transact(&mut one, |_, _| found += 1).unwrap();
        assert_eq!(found, 1);
    }
}

#[test]
fn silence_ends_in_a_timeout() {
    let mut socket = Socket::open(Protocol::Generic).unwrap();
    let after = Duration::from_millis(20);
    socket.set_timeout(after).unwrap();
    // The kernel takes a message of type "nothing" (NLMSG_NOOP) without a word where no acknowledgement is asked for.
    let mut batch = Batch::new("wait");
    batch.message(1, 0, |_| ());
    let mut dump = socket.dump(&mut batch).unwrap();
    assert_eq!(dump.next_message().unwrap_err(), NetlinkError::Timeout { asked: "wait", after });
}

#[test]
fn an_empty_batch_is_not_sent() {
    let mut socket = Socket::open(Protocol::Generic).unwrap();
    let mut batch = Batch::new("nothing");
    socket.transact(&mut batch, |_, _| panic!("an answer to nothing")).unwrap();
    assert_eq!(socket.dump(&mut batch).unwrap().next_message(), Ok(None));
}

/// A tree of attributes.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Leaf(u16, Vec<u8>),
    Nest(u16, Vec<Node>),
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let leaf =
        (0..0x3fffu16, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, bytes)| Node::Leaf(kind, bytes));
    let node = leaf.prop_recursive(4, 64, 6, |inner| {
        (0..0x3fffu16, prop::collection::vec(inner, 0..6)).prop_map(|(kind, nodes)| Node::Nest(kind, nodes))
    });
    prop::collection::vec(node, 0..6)
}

fn write(body: &mut Body<'_>, nodes: &[Node]) {
    for node in nodes {
        match node {
            Node::Leaf(kind, bytes) => body.put(*kind, bytes),
            Node::Nest(kind, nodes) => body.nest(*kind, |body| write(body, nodes)),
        };
    }
}

/// Reads a tree of the same shape back.
fn read(attributes: Attributes<'_>, shape: &[Node]) -> Vec<Node> {
    let read_one = |(attribute, node): (Attribute<'_>, &Node)| match node {
        Node::Leaf(..) => Node::Leaf(attribute.kind, attribute.payload.to_vec()),
        Node::Nest(_, nodes) => Node::Nest(attribute.kind, read(attribute.nested(), nodes)),
    };
    assert_eq!(attributes.clone().count(), shape.len());
    attributes.zip(shape).map(read_one).collect()
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(nodes in nodes(), header in prop::collection::vec(any::<u8>(), 0..9)) {
        let mut batch = Batch::new("test");
        batch.message(5, flags::ACK, |body| {
            body.raw(&header);
            write(body, &nodes);
        });
        let (message, length) = Message::read(batch.bytes()).unwrap();
        prop_assert_eq!(length, batch.size());
        prop_assert_eq!(message.payload.get(..header.len()), Some(&header[..]));
        prop_assert_eq!(read(Attributes::new(&message.payload[align(header.len())..]), &nodes), nodes);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for attribute in Attributes::new(&bytes) {
            let _ = (attribute.u8(), attribute.u16(), attribute.u32(), attribute.u64_be(), attribute.ip(), attribute.text());
            let _ = attribute.nested().count();
        }
        let mut rest = &bytes[..];
        while let Some((message, length)) = Message::read(rest) {
            prop_assert!(length >= message::HEADER_LENGTH, "no progress");
            let _ = (message.acknowledgement(), message.end_of_dump());
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// A length field that lies, in an otherwise plausible refusal.
    #[test]
    fn lying_lengths_are_harmless(length in any::<u32>(), echo in any::<u32>(), answer_flags in any::<u16>()) {
        let mut answer = refusal(-22, &[0; 24], false, true);
        answer[20..24].copy_from_slice(&echo.to_ne_bytes());
        answer[6..8].copy_from_slice(&answer_flags.to_ne_bytes());
        let (message, _) = Message::read(&answer).unwrap();
        let _ = message.acknowledgement();
        answer[..4].copy_from_slice(&length.to_ne_bytes());
        if let Some((message, _)) = Message::read(&answer) {
            prop_assert!(message.payload.len() <= answer.len());
        }
    }
}
