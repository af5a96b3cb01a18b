//! IPVS mode: what is in the kernel, how a packet goes, whose is what, and what is different from kube-proxy's.
//!
//! # What is in the kernel
//!
//! | what | for |
//! |---|---|
//! | a **virtual server** for each frontend (address, port, protocol) of a service, with its endpoints as **real servers** | chooses the endpoint |
//! | a **device** `kube-ipvs0`, never up, with the addresses of services | packets to a service become the node's own, and so come to IPVS |
//! | **sets** of frontends, `KUBE-…` as kube-proxy has them and `WEIR-…` | rules look frontends up |
//! | a few **rules**, the same whatever services there are | mark, masquerade, refuse |
//!
//! A change of an endpoint is one message to IPVS, and one to ipset if the endpoint is on this node (its entry in
//! `KUBE-LOOP-BACK`). No rule changes. [`plan::ipvs`](crate::plan::ipvs) plans all of it, and
//! [`engine`](crate::engine)`/ipvs/order` has the order across the four families, once.
//!
//! # The way of a packet
//!
//! What comes in meets nat PREROUTING (`KUBE-SERVICES` marks what is to be masqueraded), is routed to the node itself, meets
//! filter INPUT (source ranges, refusals), and then IPVS, which sends it on with the endpoint's address. What the node sends
//! meets nat OUTPUT, then IPVS, and only then filter OUTPUT, which sees an endpoint already: so refusals for the node's own
//! packets are in mangle OUTPUT. All of them meet nat POSTROUTING, where marked connections are masqueraded
//! (`net.ipv4.vs.conntrack=1`). [`sim::trace`](crate::sim::trace) follows packets on this way, with the sources of each
//! fact.
//!
//! # Whose virtual servers are whose
//!
//! After a restart nothing is remembered. A virtual server is ours if the set `WEIR-VIRTUAL-SERVERS` names it. An entry is
//! written before the virtual server is made and goes after it. What kube-proxy left is told by its sets (`KUBE-CLUSTER-IP`
//! and so on, `KUBE-NODE-PORT-TCP` together with an address of the node) and, where there is no record, by the addresses of
//! its device. Everything else is somebody else's, keepalived's say, and is never changed or removed, also where a service asks for the same
//! address and port: that frontend is left out and told. `--ipvs-exclude-cidrs` protects virtual servers beside that.
//!
//! # Endpoints that go
//!
//! A TCP endpoint that is no longer wanted gets weight 0 (no new connections) and keeps its connections until the last one
//! is over, or until a deadline: the annotation `weir.dev/drain-seconds`, else `--ipvs-drain-timeout`. The deadline is in the
//! kernel, as the real server's upper threshold, so a restart knows it. A service that goes keeps its virtual server and its
//! address in the same way. What comes back has its weight at once. UDP and SCTP endpoints go at once: the kernel forgets
//! their flows (`expire_nodest_conn=1`), and the next packet finds another endpoint. Clients with session affinity leave a
//! draining endpoint (`expire_quiescent_template=1`).
//!
//! `sh` and `mh` choose by hash, and would choose a draining endpoint too; they are given the *fallback* flag, with which
//! they go on to another one. `dh` knows no such thing: with it, endpoints go at once.
//!
//! # Annotations of a Service
//!
//! | annotation | value |
//! |---|---|
//! | `weir.dev/scheduler` | a scheduler of the kernel: rr, wrr, lc, wlc, sh, dh, sed, nq, mh, lblc, lblcr, fo, ovf |
//! | `weir.dev/scheduler-flags` | `flag-1,flag-2,flag-3`, or by name `sh-fallback,sh-port,mh-fallback,mh-port` |
//! | `weir.dev/weights` | `zone=a:3,zone=b:1,node=n1:5`: the weight of an endpoint is its node's, else its zone's, else 1 |
//! | `weir.dev/drain-seconds` | how long an endpoint that goes keeps its connections; 0 cuts them |
//! | `kube-router.io/service.scheduler`, `.schedflags` | understood; weir's own win |
//!
//! One that makes no sense is told once and left out, and the service is served without it. A scheduler that the kernel
//! lacks is told once, and those services use `--ipvs-scheduler`.
//!
//! Some schedulers read a weight in their own way: with `ovf` it is how many connections an endpoint takes before the next
//! one, with `fo` the endpoint of the greatest weight takes all.
//!
//! Round robin begins at another endpoint on every node: the order in which endpoints are added depends on the node's name.
//!
//! # Node egress
//!
//! With `--masquerade-egress`, in both modes, what pods send to anything outside of the set `WEIR-NON-MASQUERADE` (IPv6:
//! `WEIR-6-NON-MASQUERADE`) leaves with the node's address. The set has the cluster's networks, those of the node, and those
//! of `--non-masquerade-cidrs`; another list changes entries of the set and no rule ([`plan::egress`](crate::plan::egress)).
//!
//! # Switching modes
//!
//! Nothing is flushed first. From iptables to IPVS mode: sets, virtual servers and addresses come while the rules of iptables
//! mode still lead packets away from them; then one transaction switches the rules; then the old chains go. From IPVS to
//! iptables mode: once the rules are in force, virtual servers, addresses, sets and the device go, each virtual server when
//! its last connection is over. Neither is code of its own: it is the difference to a plan, or to a plan of nothing.
//!
//! As long as the device has a service address, this is the node's own, and so the source of what the node itself sends
//! there. That does for IPVS, whose connections are waited for. A connection of the node that began in iptables mode in the
//! meantime would outlive the address, and no answer would come back to it. So, before the rules switch, the local route of
//! each address that the device has gets another preferred source: the address from which the node sends far away, else
//! its address in the cluster. The route goes with its address. A node with neither keeps the routes, and says so.
//! `weir diff` does not show these routes: they are no part of what a mode wants.
//!
//! # What kube-proxy does differently
//!
//! | kube-proxy | weir |
//! |---|---|
//! | removes every virtual server that it does not want | leaves others' alone |
//! | no endpoints, or none here: the same answer | REJECT and DROP as in iptables mode |
//! | internalTrafficPolicy Local leaks to other nodes where none is here | does not |
//! | externalTrafficPolicy Local without local endpoints: outsiders reach other nodes' endpoints, and no answer comes back | outsiders are dropped, pods and the node are served |
//! | an endpoint that goes waits for its connections for ever, and is forgotten at a restart | a deadline, in the kernel |
//! | rules depend on which sets are empty | constant rules |
//! | a rule with `-m physdev`, which makes the kernel filter bridged packets | none: what it tells apart is told by the set |
//! | errors are logged, and repaired at the next sync if at all | every failure is retried, and health tells |
//! | sets of 65,536 entries | a full set is replaced by a larger one in one step |
//! | sysctls are set | an administrator's word counts: `--ipvs-keep-sysctls`, or another value in `/etc/sysctl.d` |
//! | `sh` refuses clients whose endpoint drains | they go to another one |
//!
//! Not as in iptables mode: node ports do not answer on loopback addresses, which IPVS cannot serve; local pods and the node
//! use local endpoints only where a service with externalTrafficPolicy Local has some; a port that no service has is refused
//! at service addresses. `rules/README.md` has the list with the reasons.
