//! How traffic of local pods is told from other traffic (contract 1.15).

use ipnet::IpNet;

use crate::model::LocalDetector;
use crate::net::{Family, PerFamily};

/// What traffic is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection<'a> {
    /// The networks of all pods of the cluster: `clusterCIDR`.
    ClusterCidr(&'a [IpNet]),
    /// The networks of the pods of this node: `spec.podCIDRs` of its Node object.
    NodeCidr(&'a [IpNet]),
    /// The bridge that pods hang on.
    BridgeInterface(&'a str),
    /// What the names of the pods' interfaces begin with.
    InterfaceNamePrefix(&'a str),
    /// It is not.
    None,
}

/// The detector of each family: the first network of the family, or the interface for both. An empty name is none.
pub fn detectors(detection: Detection<'_>) -> PerFamily<LocalDetector> {
    PerFamily::new(|family| match detection {
        Detection::ClusterCidr(nets) | Detection::NodeCidr(nets) => {
            let net = nets.iter().find(|net| Family::of_net(net) == family);
            net.map_or(LocalDetector::None, |net| LocalDetector::Cidr(*net))
        }
        Detection::BridgeInterface("") | Detection::InterfaceNamePrefix("") | Detection::None => LocalDetector::None,
        Detection::BridgeInterface(name) => LocalDetector::Interface(name.into()),
        Detection::InterfaceNamePrefix(prefix) => LocalDetector::InterfacePrefix(prefix.into()),
    })
}

/// A line for the log, where the primary family has no detector: the rules that need one are left out there.
pub fn uncovered(detection: Detection<'_>, primary: Family) -> Option<String> {
    if *detectors(detection).get(primary) != LocalDetector::None {
        return None;
    }
    let left_out = "the rules that need to tell pods from others are left out";
    let list = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    Some(match detection {
        Detection::ClusterCidr(nets) => format!(
            "Detect-local-mode set to ClusterCIDR, but no cluster CIDR specified for primary IP family {primary} \
             (clusterCIDRs {:?}): {left_out}; set --cluster-cidr",
            list(nets)
        ),
        Detection::NodeCidr(nets) => format!(
            "Detect-local-mode set to NodeCIDR, but no PodCIDR defined at node for primary IP family {primary} \
             (podCIDRs {:?}): {left_out}, until the node has one",
            list(nets)
        ),
        Detection::BridgeInterface(_) | Detection::InterfaceNamePrefix(_) | Detection::None => {
            format!("Defaulting to no-op detect-local: {left_out}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "10.0.0.0/14";
    const V6: &str = "2002:0:0:1234::/64";

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn cidr(text: Option<&str>) -> LocalDetector {
        text.map_or(LocalDetector::None, |text| LocalDetector::Cidr(text.parse().unwrap()))
    }

    #[test]
    fn q50_to_q65_networks() {
        type Row<'a> = (u32, Family, &'a [&'a str], Option<&'a str>, Option<&'a str>);
        let rows: [Row<'_>; 8] = [
            (50, Family::V4, &[V4], Some(V4), None),
            (51, Family::V6, &[V6], None, Some(V6)),
            (52, Family::V6, &[V4], Some(V4), None),
            (53, Family::V4, &[V6], None, Some(V6)),
            (54, Family::V4, &[V4, V6], Some(V4), Some(V6)),
            (55, Family::V6, &[V6, V4], Some(V4), Some(V6)),
            (56, Family::V4, &[V6, V4], Some(V4), Some(V6)),
            (57, Family::V4, &[], None, None),
        ];
        for (row, primary, configured, v4, v6) in rows {
            let nets = nets(configured);
            let modes = [
                (row, Detection::ClusterCidr(&nets), "set to ClusterCIDR, but no cluster CIDR specified"),
                (row + 8, Detection::NodeCidr(&nets), "set to NodeCIDR, but no PodCIDR defined at node"),
            ];
            for (row, mode, text) in modes {
                assert_eq!(detectors(mode), PerFamily { v4: cidr(v4), v6: cidr(v6) }, "Q{row}");
                let is_covered = if primary == Family::V4 { v4.is_some() } else { v6.is_some() };
                let told = uncovered(mode, primary);
                assert_eq!(told.is_none(), is_covered, "Q{row}");
                if let Some(told) = told {
                    let text = format!("Detect-local-mode {text} for primary IP family {primary} (");
                    assert!(told.starts_with(&text) && told.contains(&configured.join(",")), "Q{row}: {told}");
                }
            }
        }
    }

    #[test]
    fn q66_no_mode() {
        assert_eq!(detectors(Detection::None), PerFamily::default());
        assert!(uncovered(Detection::None, Family::V4).unwrap().starts_with("Defaulting to no-op detect-local"));
    }

    #[test]
    fn q67_q68_interfaces_serve_both_families() {
        for name in ["eth", "1234567890123456789"] {
            let bridge = LocalDetector::Interface(name.into());
            let found = detectors(Detection::BridgeInterface(name));
            assert_eq!(found, PerFamily { v4: bridge.clone(), v6: bridge }, "Q67");
            let prefix = LocalDetector::InterfacePrefix(name.into());
            let found = detectors(Detection::InterfaceNamePrefix(name));
            assert_eq!(found, PerFamily { v4: prefix.clone(), v6: prefix }, "Q68");
        }
        assert_eq!(uncovered(Detection::BridgeInterface("eth"), Family::V6), None);
        assert_eq!(detectors(Detection::BridgeInterface("")), PerFamily::default());
        assert_eq!(detectors(Detection::InterfaceNamePrefix("")), PerFamily::default());
    }
}
