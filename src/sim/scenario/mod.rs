//! Scenarios: manifests, settings, and packets with the verdict that each must meet.
//!
//! A scenario is a folder under `rules/scenarios/`. `packets.yaml` is the list that the oracle, the tracer, real
//! kernels and kube-proxy itself are held against; `manifests.yaml` is what the API server would say. Later steps apply
//! or delete objects and bring packets of their own.
//!
//! ```yaml
//! about: externalTrafficPolicy Local, one endpoint here and one elsewhere.
//! settings: {masqueradeAll: true}          # what differs from the fixture below
//! packets:
//! - {row: F1, from: pod, to: 172.30.0.41:80/tcp, kept: [10.180.0.1:80, 10.180.2.1:80]}
//! - {row: B2, from: 10.180.0.1, to: 172.30.0.41:80/tcp, masqueraded: [10.180.0.1:80]}
//! then:
//! - about: the slice goes
//!   delete: [EndpointSlice ns1/svc1-a]     # or apply: [more.yaml]
//!   packets:
//!   - {row: A1, from: pod, to: 172.30.0.41:80/tcp, expect: reject}
//! ```
//!
//! * `to` is `address:port/protocol`.
//! * `from` is `pod`, `node`, `localhost`, `external` or `blocked` (see [`Fixture`]), an address (of a pod if it is in
//!   the pod network, else outside), or `ADDRESS on node` for what the node sends from that address.
//! * The verdict is `expect: reject|drop|accept|none`, or the endpoints that may be chosen, all alike: `kept` where the
//!   client's address stays, `masqueraded` where it becomes the node's. A flow can have both.
//! * `ipvs: {difference: 6, expect: none}` gives another verdict for IPVS mode, and the difference by its number in
//!   `rules/README.md`. Without it both modes do the same.
//! * The fixture: our node is called [`Fixture::NODE`], and the API server knows it; see [`Fixture`] for addresses. The
//!   detector goes by pod network.

mod objects;
mod text;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::model::Settings;
use crate::model::oracle::{Host, Mode, Packet, Verdict};
use crate::net::Family;
use crate::resolve::NodeContext;
use crate::source::wire;
use crate::state::{State, Update};
use objects::{first_updates, key_of, objects};
use text::File;

/// A scenario, ready to be run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of its folder.
    pub name: String,
    pub about: String,
    pub settings: Settings,
    pub host: Host,
    /// At least one; the first makes the state complete (`Update::Replace` of every kind).
    pub steps: Vec<Step>,
}

/// A change, and what becomes of packets after it.
#[derive(Clone, Debug)]
pub struct Step {
    pub about: String,
    pub updates: Vec<Update>,
    pub packets: Vec<Flow>,
}

/// One packet and its verdict.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Row of the scenario catalogue.
    pub row: String,
    pub client: Client,
    pub packet: Packet,
    pub expect: Verdict,
    /// `None` if IPVS mode does the same.
    pub ipvs: Option<Difference>,
}

impl Flow {
    /// What must become of the packet in this mode.
    pub fn expected(&self, mode: Mode) -> &Verdict {
        match (mode, &self.ipvs) {
            (Mode::Ipvs, Some(difference)) => &difference.expect,
            _ => &self.expect,
        }
    }
}

/// What becomes of a packet in IPVS mode that fares differently in iptables mode.
#[derive(Clone, Debug)]
pub struct Difference {
    /// In the list of `rules/README.md`, counted from 1.
    pub number: u8,
    pub expect: Verdict,
}

/// Where a client is; its address is the packet's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// In a pod on this node.
    Pod,
    /// On this node, outside of pods.
    Node,
    /// Beyond this node's outer interface.
    Outside,
}

/// The host that all scenarios share.
pub struct Fixture;

impl Fixture {
    /// Our node.
    pub const NODE: &'static str = "local-node";
    /// Interface by which packets of pods come in.
    pub const POD_INTERFACE: &'static str = "veth1";
    /// Interface by which packets from outside come in.
    pub const OUTER_INTERFACE: &'static str = "eth0";

    /// The node's addresses, the primary one of each family first.
    pub fn host_addresses() -> Vec<IpAddr> {
        ["192.168.0.2", "192.168.1.2", "192.168.99.11", "2001:db8::1", "2001:db8:1::2"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect()
    }

    /// The settings of a scenario that does not say otherwise.
    pub fn settings() -> Settings {
        text::SettingsText::default().settle(&Fixture::host_addresses())
    }

    /// The pod network, of all nodes.
    pub fn pod_network(family: Family) -> IpNet {
        match family {
            Family::V4 => IpNet::V4(ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8)),
            Family::V6 => IpNet::V6(ipnet::Ipv6Net::new_assert([0xfd00, 0x10, 0, 0, 0, 0, 0, 0].into(), 64)),
        }
    }

    /// A client by name: `pod`, `node`, `localhost`, `external`, or `blocked` (outside, and outside of source ranges).
    pub fn client(name: &str, family: Family) -> Option<(Client, IpAddr)> {
        let (client, v4, v6) = match name {
            "pod" => (Client::Pod, "10.0.0.2", "fd00:10::2"),
            "node" => (Client::Node, "192.168.0.2", "2001:db8::1"),
            "localhost" => (Client::Node, "127.0.0.1", "::1"),
            "external" => (Client::Outside, "203.0.113.2", "2600:5200::1"),
            "blocked" => (Client::Outside, "203.0.113.130", "2600:5200::f"),
            _ => return None,
        };
        let text = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        Some((client, text.parse().ok()?))
    }
}

impl Scenario {
    /// Reads the scenario in a folder.
    pub fn load(folder: &Path) -> Result<Scenario, ScenarioError> {
        let path = folder.join("packets.yaml");
        let at = |reason: String| ScenarioError { path: path.clone(), reason };
        let file: File = serde_saphyr::from_str(&read(&path)?).map_err(|error| at(error.to_string()))?;
        let mut names = wire::Interner::default();
        let first = first_updates(objects(folder, &file.manifests, &mut names)?);
        let mut steps =
            vec![Step { about: file.about.clone(), updates: first, packets: text::flows(&file.packets).map_err(at)? }];
        for step in &file.then {
            let mut updates = Vec::new();
            for (key, fact) in objects(folder, &step.apply, &mut names)? {
                updates.push(fact.map_or(Update::Delete(key), Update::Upsert));
            }
            for text in &step.delete {
                updates.push(Update::Delete(key_of(text).map_err(at)?));
            }
            steps.push(Step { about: step.about.clone(), updates, packets: text::flows(&step.packets).map_err(at)? });
        }
        let mut addresses = Fixture::host_addresses();
        addresses.extend(&file.more_host_addresses);
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Scenario {
            name,
            about: file.about,
            settings: file.settings.settle(&addresses),
            host: Host { addresses },
            steps,
        })
    }

    /// Reads all scenarios in a folder of folders, sorted by name.
    pub fn load_all(root: &Path) -> Result<Vec<Scenario>, ScenarioError> {
        let at = |error: std::io::Error| ScenarioError { path: root.to_owned(), reason: error.to_string() };
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(root).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        folders.sort();
        folders.iter().map(|folder| Scenario::load(folder)).collect()
    }

    /// Our node as the state describes it.
    pub fn node(&self, state: &State) -> NodeContext {
        NodeContext::of(state, Fixture::NODE.into())
    }
}

/// A scenario that can not be read.
#[derive(Debug, thiserror::Error)]
#[error("scenario file {}: {reason}", path.display())]
pub struct ScenarioError {
    path: PathBuf,
    reason: String,
}

fn read(path: &Path) -> Result<String, ScenarioError> {
    std::fs::read_to_string(path).map_err(|error| ScenarioError { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests;
