//! Services come, change, grow and go, and so do connections.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use weir::lab::{Failure, Probe};
use weir::net::Family;

use crate::control_plane::PORT;
use crate::objects::{SERVICES, SLICES, cluster_ip};
use crate::process::eventually;
use crate::world::{answered_by, with};

#[test]
fn services_are_served_as_the_server_has_them() {
    with(|lab, world| {
        let [first, second, client] = lab.pods() else { panic!("three pods") };
        let early = world.serve("early", &json!({}), &[first]);
        let running = world.proxy(lab.node()).started();
        answered_by(client, cluster_ip(&early), &[first]);

        // A new one, whose address and node port the server has chosen.
        let late = world.serve("late", &json!({"type": "NodePort"}), &[first]);
        let node_port = u16::try_from(late["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
        let on_node = SocketAddr::new(lab.node().address(Family::V4).unwrap(), node_port);
        answered_by(client, cluster_ip(&late), &[first]);
        answered_by(lab.client(), on_node, &[first]);

        // Another endpoint, then more, then none, then one.
        world.serve_by("late", &[second]);
        answered_by(client, cluster_ip(&late), &[second]);
        world.serve_by("late", &[first, second]);
        answered_by(client, cluster_ip(&late), &[first, second]);
        answered_by(lab.client(), on_node, &[first, second]);
        world.serve_by("late", &[]);
        eventually("without endpoints it is refused", || {
            Probe::tcp(cluster_ip(&late)).run(client) == Err(Failure::Refused)
        });
        world.serve_by("late", &[first]);
        answered_by(client, cluster_ip(&late), &[first]);

        world.admin.delete(&format!("{SERVICES}/late"));
        world.admin.delete(&format!("{SLICES}/late-1"));
        eventually("a deleted service is gone", || {
            let gone = |to| Probe::tcp(to).timeout(Duration::from_millis(500)).run(client).is_err();
            gone(cluster_ip(&late)) && gone(on_node)
        });
        answered_by(client, cluster_ip(&early), &[first]);
        assert_eq!(running.said("ERROR"), [""; 0], "{}", running.log());
        assert_eq!(running.stop().0, Some(0));
        answered_by(client, cluster_ip(&early), &[first]);
    });
}

/// `default/kubernetes`, which the server makes for itself, leads to it.
#[test]
fn the_server_is_reached_by_its_own_service() {
    with(|lab, world| {
        let kubernetes = world.admin.get(&format!("{SERVICES}/kubernetes"));
        let address: SocketAddr = format!("{}:443", kubernetes["spec"]["clusterIP"].as_str().unwrap()).parse().unwrap();
        let running = world.proxy(lab.node()).started();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok();
        eventually("a pod reaches the API server", || lab.pods()[0].run(connect).unwrap());
        let rules = crate::program::rules(lab.node(), "iptables-nft-save");
        assert!(rules.contains(&format!(":{PORT}")), "{rules}");
        assert_eq!(running.stop().0, Some(0));
    });
}
