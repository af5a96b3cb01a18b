//! A test for each variant of iptables.

use std::sync::{Mutex, PoisonError};
use std::thread;

use weir::cmd::options::ProxyMode;
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::{Variant, detect};
use weir::lab::{Host, Lab, rerun, sctp_available, skipped};
use weir::net::Family;

/// Runs the test once for each variant, both at the same time, where namespaces can be made. Call it from the test's
/// own thread.
pub fn on_each_variant(test: impl Fn(Variant) + Sync) {
    if !rerun::allowed().unwrap() {
        return;
    }
    let test = &test;
    thread::scope(|scope| {
        let threads = Variant::ALL.map(|variant| (variant, scope.spawn(move || test(variant))));
        for (variant, thread) in threads {
            if let Err(panic) = thread.join() {
                eprintln!("this was with iptables-{variant}");
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Held by who asks whether the kernel has SCTP, which may load a module, and by who looks that nothing else loads it.
pub static SCTP_MODULE: Mutex<()> = Mutex::new(());

/// Whether the kernel has SCTP.
pub fn has_sctp() -> bool {
    let _alone = SCTP_MODULE.lock().unwrap_or_else(PoisonError::into_inner);
    sctp_available()
}

/// The driver of a variant as it works on a host, or `None` where it is not installed.
pub fn driver(host: &Host, variant: Variant) -> Option<RestoreDriver> {
    match host.run(|| detect(Some(variant))).unwrap() {
        Ok(tools) => Some(RestoreDriver::new(tools)),
        Err(error) => {
            skipped(&format!("real packets through iptables-{variant}: {error}"));
            None
        }
    }
}

/// Gives restore input to the variant's own tool, as an administrator would. Nothing is flushed.
pub fn restore(host: &Host, driver: &RestoreDriver, family: Family, input: &str) {
    let program = &driver.tools().binaries.get(family).as_ref().unwrap().restore;
    host.check(program.to_str().unwrap(), &["--noflush", "--wait", "5"], input).unwrap();
}

/// What the variant's own tool prints of a family's tables.
pub fn save(host: &Host, driver: &RestoreDriver, family: Family) -> String {
    let program = &driver.tools().binaries.get(family).as_ref().unwrap().save;
    host.check(program.to_str().unwrap(), &[], "").unwrap()
}

/// Makes every packet that no rule of ours touches end in *host unreachable*, at once and each time.
///
/// On the node it is an administrator's firewall that lets in nothing which the rules before it have not let in: so a
/// packet for the node itself that nobody touched is told from one that was rejected. On the gateway it takes the place
/// of the lab's unreachable route, of which the kernel tells an IPv4 client five times, and then once a second.
pub fn tell_untouched(lab: &Lab, driver: &RestoreDriver, mode: ProxyMode) {
    for family in driver.tools().families() {
        let input = match mode {
            ProxyMode::Iptables => refuse_rest(family),
            ProxyMode::Ipvs => format!("*filter\n-A INPUT -j MARK --set-xmark {REST}/{REST}\nCOMMIT\n"),
        };
        restore(lab.node(), driver, family, &input);
    }
    if mode == ProxyMode::Ipvs {
        lab.node().check("nft", &["-f", "-"], &refuse_rest_behind_ipvs()).unwrap();
    }
    // Not any packet that is forwarded: those that the gateway's bridge passes on may come by here too.
    ip(lab.gateway(), "route replace default dev lo\n");
    let rule = "-A FORWARD -o lo -j REJECT --reject-with icmp-host-unreachable";
    restore(lab.gateway(), driver, Family::V4, &format!("*filter\n{rule}\nCOMMIT\n"));
}

/// What is new at the end of INPUT has been let in by no rule before.
fn refuse_rest(family: Family) -> String {
    let reason = match family {
        Family::V4 => "icmp-host-unreachable",
        Family::V6 => "icmp6-addr-unreachable",
    };
    let rule = |protocol: &str| {
        format!("-A INPUT -p {protocol} -m conntrack --ctstate NEW -j REJECT --reject-with {reason}\n")
    };
    format!("*filter\n{}{}{}COMMIT\n", rule("tcp"), rule("udp"), rule("sctp"))
}

/// Mark of packets that no rule of INPUT has let in, where they are refused later.
const REST: &str = "0x1";

/// The same where virtual servers take packets behind INPUT (priority 99 of that hook, `ip_vs_core.c` of Linux): only
/// what they have left alone is refused.
fn refuse_rest_behind_ipvs() -> String {
    let rule = |protocol: &str| {
        let new = format!("meta mark and {REST} == {REST} ct state new meta l4proto {protocol}");
        format!(
            "meta nfproto ipv4 {new} reject with icmp type host-unreachable\n\
             meta nfproto ipv6 {new} reject with icmpv6 type addr-unreachable\n"
        )
    };
    let rules = format!("{}{}{}", rule("tcp"), rule("udp"), rule("sctp"));
    format!("table inet rest {{ chain input {{ type filter hook input priority 200; policy accept;\n{rules}}}\n}}\n")
}

/// Runs iproute2 on a host, with a command a line.
pub fn ip(host: &Host, commands: &str) {
    host.check("ip", &["-batch", "-"], commands).unwrap();
}
