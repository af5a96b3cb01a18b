//! `packets.yaml`, as written, and what it means.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{Client, Difference, Fixture, Flow};
use crate::model::oracle::{Outcome, Packet, Verdict};
use crate::model::{LocalDetector, NodePortAddresses, Settings};
use crate::net::{Endpoint, Family, PerFamily};

/// `packets.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct File {
    pub about: String,
    /// Files beside this one.
    #[serde(default = "default_manifests")]
    pub manifests: Vec<String>,
    #[serde(default)]
    pub settings: SettingsText,
    /// Addresses that the node has beside the fixture's.
    #[serde(default)]
    pub more_host_addresses: Vec<IpAddr>,
    pub packets: Vec<PacketText>,
    #[serde(default)]
    pub then: Vec<StepText>,
}

fn default_manifests() -> Vec<String> {
    vec!["manifests.yaml".to_owned()]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepText {
    pub about: String,
    /// Files with objects that are new or changed.
    #[serde(default)]
    pub apply: Vec<String>,
    /// `Kind namespace/name`.
    #[serde(default)]
    pub delete: Vec<String>,
    pub packets: Vec<PacketText>,
}

/// What differs from the fixture.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SettingsText {
    detector: DetectorText,
    masquerade_all: bool,
    localhost_node_ports: Option<bool>,
    /// Addresses that take node ports. A family of which none is listed takes them on all.
    node_port_addresses: Vec<IpAddr>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum DetectorText {
    #[default]
    PodNetwork,
    None,
    Interface(String),
    InterfacePrefix(String),
}

impl SettingsText {
    /// `hosts`: the addresses of the node.
    pub fn settle(&self, hosts: &[IpAddr]) -> Settings {
        let of_family = |addresses: &[IpAddr], family| -> Box<[IpAddr]> {
            let mut of_family: Vec<IpAddr> = addresses.iter().copied().filter(|ip| Family::of(ip) == family).collect();
            of_family.sort_unstable();
            of_family.into()
        };
        Settings {
            masquerade_all: self.masquerade_all,
            localhost_node_ports: self.localhost_node_ports.unwrap_or(true),
            detector: PerFamily::new(|family| match &self.detector {
                DetectorText::PodNetwork => LocalDetector::Cidr(Fixture::pod_network(family)),
                DetectorText::None => LocalDetector::None,
                DetectorText::Interface(name) => LocalDetector::Interface(name.as_str().into()),
                DetectorText::InterfacePrefix(prefix) => LocalDetector::InterfacePrefix(prefix.as_str().into()),
            }),
            node_ips: PerFamily::new(|family| hosts.iter().copied().find(|ip| Family::of(ip) == family)),
            node_port_addresses: PerFamily::new(|family| match of_family(&self.node_port_addresses, family) {
                all if all.is_empty() => NodePortAddresses::All,
                some => NodePortAddresses::Only(some),
            }),
            local_addresses: PerFamily::new(|family| of_family(hosts, family)),
            ..Settings::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketText {
    row: String,
    from: String,
    to: String,
    expect: Option<Refusal>,
    #[serde(default)]
    kept: Vec<SocketAddr>,
    #[serde(default)]
    masqueraded: Vec<SocketAddr>,
    /// Where IPVS mode differs.
    ipvs: Option<DifferenceText>,
}

/// What becomes of a packet in IPVS mode.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DifferenceText {
    /// Which of the differences in `rules/README.md` it is.
    difference: u8,
    expect: Option<Refusal>,
    #[serde(default)]
    kept: Vec<SocketAddr>,
    #[serde(default)]
    masqueraded: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Refusal {
    Reject,
    Drop,
    Accept,
    None,
}

pub fn flows(texts: &[PacketText]) -> Result<Vec<Flow>, String> {
    let flow = |text: &PacketText| text.to_flow().map_err(|reason| format!("row {}: {reason}", text.row));
    texts.iter().map(flow).collect()
}

impl PacketText {
    fn to_flow(&self) -> Result<Flow, String> {
        let bad_to = || format!("to: {:?} is not address:port/protocol", self.to);
        let (address, protocol) = self.to.rsplit_once('/').ok_or_else(bad_to)?;
        let to: SocketAddr = address.parse().map_err(|_| bad_to())?;
        let protocol = protocol.parse().map_err(|error| format!("to: {error}"))?;
        let (client, source) = self.source(Family::of(&to.ip()))?;
        let in_interface = match client {
            Client::Node => None,
            Client::Pod => Some(Fixture::POD_INTERFACE.to_owned()),
            Client::Outside => Some(Fixture::OUTER_INTERFACE.to_owned()),
        };
        let packet = Packet { source, destination: to.ip(), protocol, port: to.port(), in_interface };
        let expect = verdict(self.expect, &self.kept, &self.masqueraded)?;
        let ipvs = self.ipvs.as_ref().map(|text| text.to_difference(&expect)).transpose()?;
        Ok(Flow { row: self.row.clone(), client, packet, expect, ipvs })
    }

    fn source(&self, family: Family) -> Result<(Client, IpAddr), String> {
        if let Some(named) = Fixture::client(&self.from, family) {
            return Ok(named);
        }
        let (text, on_node) = match self.from.strip_suffix(" on node") {
            Some(text) => (text, true),
            None => (self.from.as_str(), false),
        };
        let source: IpAddr = text.parse().map_err(|_| format!("from: {:?} is no client and no address", self.from))?;
        if Family::of(&source) != family {
            return Err(format!("from: {source} is not of the same family as to: {}", self.to));
        }
        let client = match on_node {
            true => Client::Node,
            false if Fixture::pod_network(family).contains(&source) => Client::Pod,
            false => Client::Outside,
        };
        Ok((client, source))
    }
}

impl DifferenceText {
    fn to_difference(&self, iptables: &Verdict) -> Result<Difference, String> {
        let expect = verdict(self.expect, &self.kept, &self.masqueraded).map_err(|reason| format!("ipvs: {reason}"))?;
        if expect == *iptables {
            return Err("ipvs: this is no difference".to_owned());
        }
        Ok(Difference { number: self.difference, expect })
    }
}

fn verdict(expect: Option<Refusal>, kept: &[SocketAddr], masqueraded: &[SocketAddr]) -> Result<Verdict, String> {
    let outcome =
        |masqueraded| move |at: &SocketAddr| Outcome { endpoint: Endpoint::new(at.ip(), at.port()), masqueraded };
    let outcomes: Vec<Outcome> = kept.iter().map(outcome(false)).chain(masqueraded.iter().map(outcome(true))).collect();
    match (expect, outcomes.is_empty()) {
        (Some(Refusal::Reject), true) => Ok(Verdict::Reject),
        (Some(Refusal::Drop), true) => Ok(Verdict::Drop),
        (Some(Refusal::Accept), true) => Ok(Verdict::Accept),
        (Some(Refusal::None), true) => Ok(Verdict::Untouched),
        (None, false) => {
            let probability = 1.0 / outcomes.len() as f64;
            let served: BTreeMap<Outcome, f64> = outcomes.iter().map(|outcome| (*outcome, probability)).collect();
            if served.len() < outcomes.len() {
                return Err("an endpoint is listed twice".to_owned());
            }
            Ok(Verdict::Serve(served))
        }
        _ => Err("give either expect, or kept and masqueraded endpoints".to_owned()),
    }
}
