use nix::errno::Errno;

use super::*;
use crate::sim::SimIpvs;

const TEMPORARY: &str = "198.51.100.0:20000/TCP";

/// L51: tried and gone.
#[test]
fn l51_a_scheduler_that_is_there() {
    let mut kernel = SimIpvs::new(1);
    for name in Scheduler::KNOWN {
        assert!(kernel.has_scheduler(&Scheduler::new(name).unwrap()).unwrap(), "{name}");
    }
    assert_eq!(kernel.servers(), []);
    let (messages, about) = kernel.take_messages();
    assert_eq!((messages.new_servers, messages.deleted_servers), (13, 13));
    assert_eq!(about, [key(TEMPORARY)].into());
}

#[test]
fn a_scheduler_that_is_not_there_is_no_error() {
    let mut kernel = SimIpvs::new(1);
    let mh = Scheduler::new("mh").unwrap();
    kernel.remove_scheduler(mh.clone());
    assert!(!kernel.has_scheduler(&mh).unwrap());
    assert!(!kernel.has_scheduler(&Scheduler::new("nosuch").unwrap()).unwrap());
    kernel.restore_scheduler(&mh);
    assert!(kernel.has_scheduler(&mh).unwrap());
    assert_eq!(kernel.servers(), []);
}

/// Another program's virtual server of that name is neither used nor deleted.
#[test]
fn a_place_that_is_taken_is_left_alone() {
    let mut kernel = SimIpvs::new(1);
    let foreign = |port: u16| ObservedVirtualServer {
        key: VirtualServerKey { port, ..key(TEMPORARY) },
        server: scheduled("wlc"),
        unknown: false,
        real_servers: Default::default(),
    };
    kernel.add_foreign(foreign(20_000));
    let before = kernel.servers();
    assert!(kernel.has_scheduler(&Scheduler::round_robin()).unwrap());
    assert_eq!(kernel.servers(), before);
    (20_000..20_016).for_each(|port| kernel.add_foreign(foreign(port)));
    let error = kernel.has_scheduler(&Scheduler::round_robin()).unwrap_err().message;
    assert!(error.contains("20000 to 20015") && error.contains("delete"), "{error}");
}

/// L54, L55 and L56: listing, adding and deleting fail.
#[test]
fn l54_l55_l56_failures_are_told() {
    let mut kernel = SimIpvs::new(1);
    kernel.set_unavailable(Some(Errno::EPERM));
    let listed = kernel.observe(Family::V4, &mut |_| panic!("nothing can be read")).unwrap_err().message;
    assert!(listed.contains("list virtual servers") && listed.contains("CAP_NET_ADMIN"), "{listed}");
    let tried = kernel.has_scheduler(&Scheduler::round_robin()).unwrap_err().message;
    assert!(tried.contains("CAP_NET_ADMIN"), "{tried}");
    kernel.set_unavailable(None);

    kernel.refuse_once(key(TEMPORARY), Errno::ENOMEM);
    let added = kernel.has_scheduler(&Scheduler::round_robin()).unwrap_err().message;
    assert!(added.contains("scheduler rr: cannot add virtual server") && added.contains("ENOMEM"), "{added}");
    assert_eq!(kernel.servers(), []);

    let mut stubborn = Stubborn(kernel);
    let deleted = probe::has_scheduler(&mut stubborn, &Scheduler::round_robin()).unwrap_err().to_string();
    assert!(deleted.contains(&format!("cannot delete virtual server {TEMPORARY}")), "{deleted}");
}

/// A kernel that deletes nothing.
struct Stubborn(SimIpvs);

impl request::Table for Stubborn {
    fn write(
        &mut self,
        requests: &[request::Request<'_>],
        refused: &mut dyn FnMut(usize, crate::kernel::netlink::Refusal),
    ) -> Result<(), crate::kernel::netlink::NetlinkError> {
        for request in requests.iter().filter(|request| request.command == request::Command::DeleteServer) {
            self.0.refuse_once(request.key, Errno::EBUSY);
        }
        self.0.write(requests, refused)
    }
}

/// What a kernel without IPVS, or without permission, is told to lack.
#[test]
fn errors_have_a_remedy() {
    let missing = IpvsError::Missing.to_string();
    assert!(missing.contains("modprobe ip_vs") && missing.contains("CONFIG_IP_VS"), "{missing}");
    let Err(error) = IpvsDriver::open(0) else { return };
    let text = error.to_string();
    assert!(text.contains("modprobe ip_vs") || text.contains("CAP_NET_ADMIN"), "{text}");
}
