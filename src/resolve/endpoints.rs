//! Slices → one list of endpoints for a service port (contract 2.4).

use std::io::Write;

use crate::net::{Endpoint, Family, Protocol};
use crate::state::{EndpointSlice, SliceEndpoint};

/// An endpoint of a service port, after merging.
#[derive(Clone, Copy, Debug)]
pub struct Merged<'a> {
    pub endpoint: Endpoint,
    pub on_node: bool,
    pub fact: &'a SliceEndpoint,
}

impl Merged<'_> {
    pub fn is_ready(&self) -> bool {
        self.fact.conditions.ready
    }

    /// To be used only where nothing is ready: still serving while it terminates.
    pub fn is_fallback(&self) -> bool {
        self.fact.conditions.serving && self.fact.conditions.terminating
    }

    /// Smaller is better. A running endpoint hides a terminating one with the same address: the address was given to a
    /// new pod. The API leaves open which of several running ones counts (they are the same pod in two slices, while
    /// a controller moves it); the most useful description wins, and of equal ones that of the first slice by name.
    fn preference(&self) -> impl Ord + use<> {
        let conditions = self.fact.conditions;
        (conditions.terminating, !conditions.ready, !conditions.serving, !self.on_node, self.fact.hints().is_none())
    }
}

/// All endpoints of one port, each address and port once, sorted by the bytes of their text.
pub fn merge<'a>(
    slices: &'a [EndpointSlice],
    family: Family,
    port_name: &str,
    protocol: Protocol,
    node_name: &str,
) -> Vec<Merged<'a>> {
    let mut found = Vec::with_capacity(slices.iter().map(|slice| slice.endpoints.len()).sum());
    for slice in slices.iter().filter(|slice| slice.family == family) {
        for port in slice.ports.iter().filter(|port| *port.name == *port_name && port.protocol == protocol) {
            found.extend(slice.endpoints.iter().map(|fact| {
                let endpoint = Endpoint::new(fact.ip, port.port);
                let on_node = fact.node() == Some(node_name);
                (Text::of(&endpoint), Merged { endpoint, on_node, fact })
            }));
        }
    }
    // Stable, so that slices, which are sorted by name, decide last.
    found.sort_by(|(text_a, a), (text_b, b)| text_a.cmp(text_b).then_with(|| a.preference().cmp(&b.preference())));
    found.dedup_by(|(_, later), (_, earlier)| later.endpoint == earlier.endpoint);
    found.into_iter().map(|(_, merged)| merged).collect()
}

/// The text of an endpoint as big-endian words, padded with zeros: ordered like its bytes, compared eight at a time,
/// written once per endpoint and nowhere allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Text([u64; Text::WORDS]);

impl Text {
    /// Room for `[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535`, 47 bytes.
    const WORDS: usize = 6;

    fn of(endpoint: &Endpoint) -> Text {
        let mut words = [[0; 8]; Text::WORDS];
        // Cannot fail: no endpoint has a longer text.
        let _ = write!(words.as_flattened_mut(), "{endpoint}");
        Text(words.map(u64::from_be_bytes))
    }
}
