use std::collections::BTreeSet;

use nix::errno::Errno;

use super::super::request::{Command, Request, Table};
use super::*;
use crate::kernel::ApplyErrorKind;
use crate::kernel::netlink::{NetlinkError, Refusal};
use crate::sim::{Messages, SimIpvs};

const SEED: u64 = 1;

/// Virtual servers from the text of `ipvsadm -Sn`.
fn table(text: &str) -> Vec<ObservedVirtualServer> {
    text::parse(text).unwrap()
}

/// The difference between two texts.
fn between(before: &str, after: &str) -> Changes {
    let mut changes = Changes::default();
    for server in table(before) {
        let change = changes.servers.entry(server.key).or_default();
        change.before = Some(server.server);
        for (endpoint, real) in server.real_servers {
            change.real_servers.entry(endpoint).or_default().before = Some(real.server);
        }
    }
    for server in table(after) {
        let change = changes.servers.entry(server.key).or_default();
        change.after = Some(server.server);
        for (endpoint, real) in server.real_servers {
            change.real_servers.entry(endpoint).or_default().after = Some(real.server);
        }
    }
    changes.servers.values_mut().for_each(|change| change.real_servers.retain(|_, real| real.before != real.after));
    changes.servers.retain(|_, change| !change.is_nothing());
    changes
}

fn holding(text: &str) -> SimIpvs {
    let mut kernel = SimIpvs::new(SEED);
    table(text).into_iter().for_each(|server| kernel.add_foreign(server));
    kernel
}

const ONE: &str = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m\n-a -t 10.0.0.1:80 -r 10.1.0.2:80 -m\n";
const TWO: &str = "-A -t 10.0.0.1:80 -s wrr -p 60\n-a -t 10.0.0.1:80 -r 10.1.0.2:80 -m -w 5\n\
                   -a -t 10.0.0.1:80 -r 10.1.0.3:80 -m\n-A -u 10.0.0.2:53 -s rr\n";
const NONE: &str = "";

/// Whatever is there, the result is what was wanted, and of what was known one request each.
#[test]
fn the_result_does_not_depend_on_what_is_there() {
    for before in [NONE, ONE, TWO] {
        for there in [NONE, ONE, TWO] {
            for after in [NONE, ONE, TWO] {
                let mut kernel = holding(there);
                let changes = between(before, after);
                kernel.apply(&changes).unwrap_or_else(|refused| panic!("{before} {there} {after}: {refused}"));
                let found = kernel.servers();
                for key in changes.servers.keys() {
                    let wanted = table(after).into_iter().find(|server| server.key == *key);
                    let found = found.iter().find(|server| server.key == *key);
                    assert_eq!(found.map(|found| &found.server), wanted.as_ref().map(|wanted| &wanted.server));
                    for (endpoint, change) in &changes.servers[key].real_servers {
                        let real = found.and_then(|found| found.real_servers.get(endpoint)).map(|real| real.server);
                        assert_eq!(real, change.after.filter(|_| wanted.is_some()), "{key} {endpoint}");
                    }
                }
                if before == there {
                    assert_eq!(kernel.servers(), table(after));
                }
            }
        }
    }
}

/// L68: a real server is who it is by its address; another weight is a change in place.
#[test]
fn l68_one_change_is_one_message() {
    let mut kernel = holding(ONE);
    let drained = ONE.replacen("-m\n", "-m -w 0\n", 1);
    kernel.apply(&between(ONE, &drained)).unwrap();
    let expected = Messages { set_reals: 1, ..Messages::default() };
    assert_eq!(kernel.take_messages(), (expected, [key("10.0.0.1:80/TCP")].into()));
    kernel.apply(&between(&drained, &drained)).unwrap();
    assert_eq!(kernel.take_messages(), (Messages::default(), BTreeSet::new()));
    kernel.apply(&between(&drained, NONE)).unwrap();
    let expected = Messages { deleted_servers: 1, ..Messages::default() };
    assert_eq!(kernel.take_messages().0, expected, "real servers go with their virtual server");
}

/// L6 to L13: what is equal is left alone, what differs is set, never deleted and added again.
#[test]
fn l6_to_l13_a_virtual_server_is_set_in_place() {
    for protocol in ["-t", "-u", "--sctp-service"] {
        let plain = format!("-A {protocol} 10.0.0.1:80 -s rr\n");
        for (other, set) in [("-s rr", 0), ("-s rr -p 10800", 1), ("-s wlc", 1)] {
            let mut kernel = holding(&plain);
            let after = plain.replace("-s rr", other);
            kernel.apply(&between(&plain, &after)).unwrap();
            assert_eq!(kernel.take_messages().0, Messages { set_servers: set, ..Messages::default() }, "{after}");
            assert_eq!(kernel.servers(), table(&after));
        }
        let mut kernel = SimIpvs::new(SEED);
        kernel.apply(&between(NONE, &plain)).unwrap();
        assert_eq!(kernel.take_messages().0, Messages { new_servers: 1, ..Messages::default() });
    }
}

/// What a table was asked, in its order.
struct Spy(Vec<String>);

impl Table for Spy {
    fn write(&mut self, requests: &[Request<'_>], _: &mut dyn FnMut(usize, Refusal)) -> Result<(), NetlinkError> {
        self.0.extend(requests.iter().map(Request::to_string));
        Ok(())
    }
}

#[test]
fn what_is_added_comes_before_what_goes() {
    let mut spy = Spy(Vec::new());
    let after = format!("{}-A -t 10.0.0.9:80 -s rr\n", TWO.replace("10.0.0.2", "10.0.0.3"));
    apply::apply(&mut spy, &between(&format!("{ONE}-A -u 10.0.0.2:53 -s rr\n"), &after), 3).unwrap();
    let first_deleted = spy.0.iter().position(|asked| asked.starts_with("delete")).unwrap();
    assert!(spy.0[first_deleted..].iter().all(|asked| asked.starts_with("delete")), "{:#?}", spy.0);
    assert_eq!(
        spy.0[first_deleted..],
        ["delete real server 10.1.0.1:80 of virtual server 10.0.0.1:80/TCP", "delete virtual server 10.0.0.2:53/UDP"]
    );
    assert_eq!(spy.0[0], "change virtual server 10.0.0.1:80/TCP");
    // A change of nothing into nothing deletes nothing.
    let mut spy = Spy(Vec::new());
    let nothing = Changes { servers: [(key("10.0.0.1:80/TCP"), VirtualServerChange::default())].into() };
    apply::apply(&mut spy, &nothing, 3).unwrap();
    assert!(spy.0.is_empty(), "{:?}", spy.0);
}

fn many_reals() -> String {
    let line = |last| format!("-a -t 10.0.0.1:80 -r 10.1.0.{last}:80 -m\n");
    "-A -t 10.0.0.1:80 -s rr\n".to_owned() + &(1..=10).map(line).collect::<String>()
}

/// Round robin begins at another endpoint on another node.
#[test]
fn the_seed_decides_where_round_robin_begins() {
    let changes = between(NONE, &many_reals());
    let order = |seed| {
        let mut kernel = SimIpvs::new(seed);
        kernel.apply(&changes).unwrap();
        kernel.real_server_order(&key("10.0.0.1:80/TCP"))
    };
    let mut begins = std::collections::BTreeMap::<Endpoint, u32>::new();
    for seed in 0..1000 {
        assert_eq!(order(seed), order(seed), "the same seed, the same order");
        *begins.entry(order(seed)[0]).or_default() += 1;
    }
    assert_eq!(begins.len(), 10);
    assert!(begins.values().all(|count| (60..=140).contains(count)), "{begins:?}");
}

#[test]
fn a_scheduler_that_is_missing_is_named_with_its_module() {
    let mut kernel = SimIpvs::new(SEED);
    kernel.remove_scheduler(Scheduler::new("wrr").unwrap());
    let refused = kernel.apply(&between(NONE, TWO)).unwrap_err();
    assert_eq!((refused.error.kind, refused.server), (ApplyErrorKind::Refused, Some(key("10.0.0.1:80/TCP"))));
    for part in ["add virtual server 10.0.0.1:80/TCP", "\"wrr\"", "ip_vs_wrr", "ENOENT"] {
        assert!(refused.error.message.contains(part), "{part}: {refused}");
    }
    assert!(kernel.server(&key("10.0.0.2:53/UDP")).is_some(), "the others are made");
    // The real servers of the one that failed are asked for once only.
    assert_eq!(kernel.take_messages().0, Messages { new_servers: 2, new_reals: 2, ..Messages::default() });
    // One that is there keeps its scheduler, and its real servers follow.
    let mut kernel = holding(ONE);
    kernel.remove_scheduler(Scheduler::new("wrr").unwrap());
    let refused = kernel.apply(&between(ONE, TWO)).unwrap_err();
    assert!(refused.error.message.contains("change virtual server"), "{refused}");
    let there = kernel.server(&key("10.0.0.1:80/TCP")).unwrap();
    assert_eq!(there.server, scheduled("rr"));
    assert_eq!(there.real_servers.into_keys().collect::<Vec<_>>(), [endpoint("10.1.0.2:80"), endpoint("10.1.0.3:80")]);
}

#[test]
fn refusals_are_of_a_kind() {
    let key = key("10.0.0.2:53/UDP");
    for (errno, kind) in [
        (Errno::EPERM, ApplyErrorKind::Unavailable),
        (Errno::ENOMEM, ApplyErrorKind::Busy),
        (Errno::ENOBUFS, ApplyErrorKind::Busy),
        (Errno::EINTR, ApplyErrorKind::Busy),
        (Errno::EBUSY, ApplyErrorKind::Busy),
        (Errno::EINVAL, ApplyErrorKind::Refused),
        (Errno::ERANGE, ApplyErrorKind::Refused),
    ] {
        let mut kernel = SimIpvs::new(SEED);
        kernel.refuse_once(key, errno);
        let refused = kernel.apply(&between(NONE, TWO)).unwrap_err();
        assert_eq!((refused.error.kind, refused.server), (kind, Some(key)), "{errno}");
        assert!(refused.to_string().contains("add virtual server 10.0.0.2:53/UDP"), "{refused}");
        assert_eq!(kernel.servers(), table(TWO.split("-A -u").next().unwrap()), "only that one is missing");
        kernel.apply(&between(NONE, TWO)).unwrap();
        assert_eq!(kernel.servers(), table(TWO));

        kernel.set_unavailable(Some(errno));
        let refused = kernel.apply(&between(TWO, ONE)).unwrap_err();
        assert_eq!((refused.error.kind, refused.server), (kind, None), "{errno}");
    }
}

#[test]
fn a_refusal_of_one_does_not_stop_the_others() {
    let mut kernel = SimIpvs::new(SEED);
    kernel.refuse_always(key("10.0.0.1:80/TCP"), Errno::EINVAL);
    let refused = kernel.apply(&between(NONE, TWO)).unwrap_err();
    assert_eq!(refused.server, Some(key("10.0.0.1:80/TCP")), "the first");
    assert_eq!(kernel.servers().len(), 1);
    assert!(kernel.apply(&between("", ONE)).is_err());
    kernel.refuse_no_more(&key("10.0.0.1:80/TCP"));
    kernel.apply(&between(NONE, TWO)).unwrap();
    assert_eq!(kernel.servers(), table(TWO));
}

/// A weight that the kernel does not take.
#[test]
fn a_real_server_that_is_refused_is_named() {
    let mut changes = between(NONE, ONE);
    let heavy = RealServer::active(u32::MAX);
    let server = changes.servers.get_mut(&key("10.0.0.1:80/TCP")).unwrap();
    server.real_servers.get_mut(&endpoint("10.1.0.2:80")).unwrap().after = Some(heavy);
    let mut kernel = SimIpvs::new(SEED);
    let refused = kernel.apply(&changes).unwrap_err();
    assert!(
        refused.error.message.contains("add real server 10.1.0.2:80 to virtual server 10.0.0.1:80/TCP"),
        "{refused}"
    );
    assert!(refused.error.message.contains("ERANGE"), "{refused}");
    assert_eq!(kernel.real_server_order(&key("10.0.0.1:80/TCP")), [endpoint("10.1.0.1:80")]);
}

/// Another program that deletes what we add, each time.
struct Contested(SimIpvs, usize);

impl Table for Contested {
    fn write(&mut self, requests: &[Request<'_>], refused: &mut dyn FnMut(usize, Refusal)) -> Result<(), NetlinkError> {
        self.1 += 1;
        for (index, request) in requests.iter().enumerate() {
            if matches!(request.command, Command::SetReal(..) | Command::NewReal(..)) {
                self.0.remove(&request.key);
            }
            self.0.write(std::slice::from_ref(request), &mut |_, refusal| refused(index, refusal))?;
        }
        Ok(())
    }
}

#[test]
fn a_contest_ends() {
    let mut contested = Contested(SimIpvs::new(SEED), 0);
    let refused = apply::apply(&mut contested, &between(NONE, ONE), SEED).unwrap_err();
    assert!(refused.error.message.contains("ESRCH"), "{refused}");
    assert!(contested.1 <= 5, "{} attempts", contested.1);
}
