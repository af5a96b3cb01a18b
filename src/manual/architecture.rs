//! The way of a fact to the kernel.
//!
//! ```text
//!  source/kube ──┐                                                          ┌── status, logs
//!                ├─ Vec<Update> ─► state ─► resolve ─► model ─► engine ─────┤
//!  source/manifest┘   one batch    facts    pure       desired   step        └── conntrack worker
//!                                                                 │ Move (before, after)
//!                                                                 ▼
//!                                                   plan ─► Changes ─► kernel/xtables ─┬─► nft: transactions, netlink
//!                                                   pure     value     order           └─► restore: iptables-restore
//!                                                    ▲                                          │
//!                                                    └──────── compare ◄── chains and rules ◄───┘
//!                                                                 ▲
//!                                  kernel/watch: who changed which chain ─► engine ─► these chains
//! ```
//!
//! A source tells facts in batches; a batch is one atomic step (a relist is one batch, so nothing flickers while an API
//! server comes back). [`State`](crate::state::State) answers with the services that a batch touched.
//! [`resolve`](crate::resolve) turns each into service ports: one value per port and family that holds everything a
//! backend may ask, and nothing else. Equal values are no change.
//!
//! The engine holds two maps of such values, what is wanted and what the kernel said yes to, and sends what differs as
//! [`Move`](crate::plan::Move)s to a backend. The iptables backend plans both sides of each move, and the difference
//! becomes [`Changes`](crate::kernel::xtables::Changes): the only thing that a driver applies, and what `weir diff`
//! prints.
//!
//! # What must stay true
//!
//! 1. **The plan is pure and sorted.** Same model, same bytes. No clock, no environment, no map order.
//! 2. **Observing returns the types that planning returns**, plus what was not understood, verbatim.
//! 3. **`Changes` is the only thing that is applied**, so a dry run cannot disagree with the deed.
//! 4. **One code path.** A full sync is a sync with every fragment in it. Nothing behaves differently above some size:
//!    a chain that outgrows its limit splits by a rule that depends on its entries alone.
//! 5. **Safe order is a type.** What is referred to is made first, then references are switched, then what is left goes.
//! 6. **Dirty until the kernel said yes.** A failed change loses nothing. A batch that the kernel refuses is cut in halves
//!    until the service at fault is found; that one keeps its last good rules and is tried again now and then, all
//!    others are served.
//! 7. **Every kernel object answers "are you ours?"** by its name alone, after a restart without memory. What is not ours
//!    is never flushed, moved or deleted ([`rules`](super::rules), *Ownership*).
//! 8. **Cleaning up is a plan of nothing**, not code of its own.
//! 9. **Stopping leaves the rules.** Starting over existing rules changes what differs.
//! 10. **Health is "the oldest change that is not in the kernel is young, and looking at the kernel works"**.
//! 11. **Family is part of the key**, not a second copy of the program.
//! 12. `plan` and `resolve` see neither drivers nor sources nor commands. The suite `architecture` checks it.
//!
//! # Two drivers
//!
//! [`Driver`](crate::kernel::xtables::Driver) is one of two. The tables of nf_tables are written by netlink
//! ([`kernel::xtables::nft`](crate::kernel::xtables::nft)): the chains of a change are read with the handles of their
//! rules, the smallest edit is sent as one transaction, and the kernel refuses it if anybody wrote meanwhile. Legacy
//! tables, and a kernel that lacks what the first needs, are written with the tools
//! ([`kernel::xtables::restore`](crate::kernel::xtables::restore)). Which one is in use is logged at the start.
//!
//! A transaction holds at most 20,000 messages: everybody else's change waits while the kernel works on it. A change that
//! is larger is cut where a part of it does no harm, leaves first, deletions last.
//!
//! IPVS mode ([`ipvs`](super::ipvs)) adds three families of kernel objects, each with its driver and its simulated twin:
//! virtual servers by generic netlink ([`kernel::ipvs`](crate::kernel::ipvs)), sets by nfnetlink
//! ([`kernel::ipset`](crate::kernel::ipset)), the service device by rtnetlink ([`kernel::link`](crate::kernel::link)). Their
//! difference is one value, [`plan::ipvs::Difference`](crate::plan::ipvs::Difference), and the order across them is written
//! once, in the engine.
//!
//! # By the clock
//!
//! What a backend does by time alone (looking whether a draining endpoint has connections left) it does in `tend`, on the
//! kernel thread between other actions, as often as it says itself.
//!
//! # Drift
//!
//! [`kernel::watch`](crate::kernel::watch) listens to what the kernel announces about nf_tables, and looks at the sizes of
//! legacy tables. It tells which chains somebody else touched and who it was; the engine compares just these
//! ([`engine`](crate::engine), *Compares*). A driver tells the watcher which writes are its own.
//!
//! # Memory
//!
//! The engine keeps the resolved service ports, not the rules: a plan costs less than holding it. 100,000 endpoints are
//! 20 bytes and flags each in the model, and 32 bytes in the facts, with names and locations shared. The benchmark
//! `memory` prints what it comes to with all around it.
