//! Slices → one list of endpoints for a service port (contract 2.4).

use std::cmp::Ordering;
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
        (conditions.terminating, !conditions.ready, !conditions.serving, !self.on_node, self.fact.hints.is_none())
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
                let on_node = fact.node.as_deref() == Some(node_name);
                (Text::of(&endpoint), Merged { endpoint, on_node, fact })
            }));
        }
    }
    // Stable, so that slices, which are sorted by name, decide last.
    found.sort_by(|(text_a, a), (text_b, b)| text_a.cmp(text_b).then_with(|| a.preference().cmp(&b.preference())));
    found.dedup_by(|(_, later), (_, earlier)| later.endpoint == earlier.endpoint);
    found.into_iter().map(|(_, merged)| merged).collect()
}

/// The text of an endpoint, in place: sorting writes each text once and allocates none.
#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; Text::LONGEST],
    length: u8,
}

impl Text {
    /// `[`, eight groups of four digits with colons, `]:`, and a port.
    const LONGEST: usize = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".len();

    fn of(endpoint: &Endpoint) -> Text {
        let mut bytes = [0; Text::LONGEST];
        let mut rest = bytes.as_mut_slice();
        // Cannot fail: no endpoint has a longer text. A cut one would still sort the same way everywhere.
        let _ = write!(rest, "{endpoint}");
        let length = Text::LONGEST - rest.len();
        Text { bytes, length: length as u8 }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn cmp(&self, other: &Text) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}
