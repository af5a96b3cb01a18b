use std::sync::{Arc, Mutex};

use super::*;
use crate::kernel::ipvs::{RealServerChange, ServerFlags, VirtualServerChange, text};
use crate::net::Protocol;

fn key() -> VirtualServerKey {
    VirtualServerKey::new(Protocol::Tcp, "10.96.0.1".parse().unwrap(), 80)
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint::new([10, 244, 0, last].into(), 8080)
}

fn server() -> VirtualServer {
    let scheduler = Scheduler::round_robin();
    VirtualServer { scheduler, flags: ServerFlags::default(), timeout: 0, prefix: 32 }
}

/// What becomes of one real server of a virtual server that stays.
fn change(last: u8, before: Option<RealServer>, after: Option<RealServer>) -> Changes {
    let real_servers = [(endpoint(last), RealServerChange { before, after })].into();
    let change = VirtualServerChange { before: Some(server()), after: Some(server()), real_servers };
    Changes { servers: [(key(), change)].into() }
}

fn serving() -> SimIpvs {
    let mut kernel = SimIpvs::new(3);
    let foreign = text::parse(
        "-A -t 10.96.0.1:80 -s rr\n-a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m\n-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m",
    );
    foreign.unwrap().into_iter().for_each(|server| kernel.add_foreign(server));
    kernel
}

#[test]
fn connections_survive_a_change_and_a_deletion() {
    let mut kernel = serving();
    assert!(kernel.set_connections(&key(), &endpoint(1), 3, 4, 5));
    assert!(!kernel.set_connections(&key(), &endpoint(9), 1, 0, 0));
    let active = Some(RealServer::active(1));
    kernel.apply(&change(1, active, Some(RealServer::active(0)))).unwrap();
    let there = kernel.real_servers(&key()).unwrap().unwrap()[&endpoint(1)];
    assert_eq!((there.server.weight, there.connections(), there.persistent), (0, 7, 5));
    kernel.apply(&change(1, active, None)).unwrap();
    assert_eq!(kernel.real_server_order(&key()), [endpoint(2)]);
    // It comes back to the connections that it had.
    kernel.apply(&change(1, None, active)).unwrap();
    assert_eq!(kernel.real_servers(&key()).unwrap().unwrap()[&endpoint(1)].connections(), 7);
    assert_eq!(kernel.real_server_order(&key()), [endpoint(1), endpoint(2)], "the newest is the first");
    // Those that ended while it was away are gone.
    kernel.apply(&change(1, active, None)).unwrap();
    assert!(kernel.set_connections(&key(), &endpoint(1), 0, 0, 0));
    kernel.apply(&change(1, None, active)).unwrap();
    assert_eq!(kernel.real_servers(&key()).unwrap().unwrap()[&endpoint(1)].connections(), 0);
}

#[test]
fn the_families_are_apart() {
    let mut kernel = serving();
    let six = text::parse("-A -u [fd00::1]:53 -s lc").unwrap().remove(0);
    kernel.add_foreign(six.clone());
    let mut seen = Vec::new();
    kernel.observe(Family::V6, &mut |server| seen.push(server)).unwrap();
    assert_eq!(seen, std::slice::from_ref(&six));
    assert_eq!(kernel.server(&six.key), Some(six.clone()));
    assert!(kernel.remove(&six.key) && !kernel.remove(&six.key));
    assert_eq!(kernel.real_servers(&six.key).unwrap(), None);
    assert!(kernel.remove_real_server(&key(), &endpoint(1)) && !kernel.remove_real_server(&key(), &endpoint(1)));
}

#[test]
fn what_the_kernel_refuses_is_refused() {
    let mixed = Endpoint::new("fd00::1".parse().unwrap(), 80);
    let real = RealServer::active(1);
    let tunnel = RealServer { forwarding: Forwarding::Tunnel, ..real };
    let low = RealServer { lower_threshold: 2, upper_threshold: 1, ..real };
    let other = VirtualServerKey { port: 81, ..key() };
    let (known, unknown) = (server(), VirtualServer { scheduler: Scheduler::new("nosuch").unwrap(), ..server() });
    for (key, command, expected) in [
        (key(), Command::NewServer(&known), Some(Errno::EEXIST)),
        (other, Command::NewServer(&unknown), Some(Errno::ENOENT)),
        (key(), Command::SetServer(&unknown), Some(Errno::ENOENT)),
        (other, Command::SetServer(&known), Some(Errno::ESRCH)),
        (other, Command::DeleteServer, Some(Errno::ESRCH)),
        (other, Command::NewReal(endpoint(1), real), Some(Errno::ESRCH)),
        (other, Command::DeleteReal(endpoint(1)), Some(Errno::ESRCH)),
        (key(), Command::NewReal(endpoint(1), real), Some(Errno::EEXIST)),
        (key(), Command::SetReal(endpoint(9), real), Some(Errno::ENOENT)),
        (key(), Command::DeleteReal(endpoint(9)), Some(Errno::ENOENT)),
        (key(), Command::NewReal(mixed, real), Some(Errno::EINVAL)),
        (key(), Command::SetReal(endpoint(1), RealServer::active(u32::MAX)), Some(Errno::ERANGE)),
        (key(), Command::SetReal(endpoint(1), low), Some(Errno::ERANGE)),
        (key(), Command::NewReal(mixed, tunnel), None),
        (key(), Command::SetServer(&known), None),
    ] {
        let mut kernel = serving();
        let mut refused = None;
        kernel.write(&[Request { key, command }], &mut |_, refusal| refused = Some(refusal.errno())).unwrap();
        assert_eq!(refused, expected, "{command:?}");
        assert_eq!(kernel.take_messages().0.total(), 1);
        assert!(expected.is_none() || kernel.servers() == serving().servers(), "{command:?} changed something");
    }
}

#[test]
fn timeouts_that_are_0_stay() {
    let mut kernel = SimIpvs::new(3);
    kernel.set_timeouts(0, 30, 0).unwrap();
    assert_eq!(kernel.timeouts(), [900, 30, 300]);
    kernel.set_unavailable(Some(Errno::EPERM));
    assert!(kernel.set_timeouts(1, 1, 1).is_err());
    assert_eq!(kernel.timeouts(), [900, 30, 300]);
}

#[test]
fn it_can_be_shared() {
    let kernel = Arc::new(Mutex::new(serving()));
    let mut engine = Arc::clone(&kernel);
    engine.apply(&change(1, Some(RealServer::active(1)), None)).unwrap();
    assert!(engine.has_scheduler(&Scheduler::round_robin()).unwrap());
    engine.set_timeouts(5, 0, 0).unwrap();
    let mut seen = 0;
    engine.observe(Family::V4, &mut |_| seen += 1).unwrap();
    assert_eq!(seen, 1);
    assert_eq!(engine.real_servers(&key()).unwrap().unwrap().len(), 1);
    assert_eq!(kernel.lock().unwrap().timeouts()[0], 5);
}
