//! Somebody else changes the rules: how long until connections go on, and until all rules are back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bare::Tables;
use crate::bed::{self, Bed};
use crate::probe;

/// Services that stand for all of them.
const SAMPLE: u32 = 50;

/// One damage, as a tool does it.
struct Damage {
    /// Names of the figures: until connections to all sampled services go on, and until the rules are as before.
    traffic: &'static str,
    rules: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    input: &'static str,
}

/// What firewalld and others do when they reload: everything is flushed, and their own rules are written.
const RELOAD: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
     :POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE\nCOMMIT\n\
     *filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
     -A INPUT -s 192.0.2.1 -j DROP\nCOMMIT\n";

/// Each damage in turn; figures in milliseconds, by name.
///
/// # Errors
/// A tool fails, or something does not come back.
pub fn measure(bed: &Bed, tables: Tables, patience: Duration) -> Result<Vec<(&'static str, f64)>, String> {
    let mut figures = Vec::new();
    let chain = chain_of(bed, tables, 0)?;
    for damage in damages(tables, &chain) {
        // What is waited for must not be answered from before: the chains are there and the proxy at rest.
        std::thread::sleep(Duration::from_secs(3));
        let before = watched(bed, tables, &chain);
        let arguments: Vec<&str> = damage.arguments.iter().map(String::as_str).collect();
        bed.node().check(damage.program, &arguments, damage.input).map_err(|error| error.to_string())?;
        let done = Instant::now();
        let step = (bed.size.services / SAMPLE).max(1) as usize;
        let targets: Vec<SocketAddr> = (0..bed.size.services).step_by(step).map(bed::service).collect();
        let answered = bed.client().run(|| probe::until_all(&targets, done, patience, &|| true));
        let answered = answered.map_err(|error| error.to_string())?;
        let slowest = answered.into_iter().collect::<Option<Vec<Duration>>>().and_then(|all| all.into_iter().max());
        let slowest = slowest.ok_or_else(|| format!("{}: connections did not go on", damage.traffic))?;
        while watched(bed, tables, &chain) != before {
            if done.elapsed() > patience {
                return Err(format!("{}: the rules did not come back", damage.rules));
            }
        }
        figures.push((damage.traffic, slowest.as_secs_f64() * 1e3));
        figures.push((damage.rules, done.elapsed().as_secs_f64() * 1e3));
    }
    Ok(figures)
}

fn damages(tables: Tables, chain: &str) -> Vec<Damage> {
    let (iptables, restore) = match tables {
        Tables::Nft => ("iptables-nft", "iptables-nft-restore"),
        Tables::Legacy => ("iptables-legacy", "iptables-legacy-restore"),
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let damage = |traffic, rules, program, arguments, input| Damage { traffic, rules, program, arguments, input };
    let mut all = vec![
        damage(
            "drift_delete_traffic_ms",
            "drift_delete_rules_ms",
            iptables,
            words(&format!("-w -t nat -D {chain} 2")),
            "",
        ),
        damage("drift_flush_traffic_ms", "drift_flush_rules_ms", iptables, words("-w -t nat -F KUBE-SERVICES"), ""),
        damage("drift_reload_traffic_ms", "drift_reload_rules_ms", restore, Vec::new(), RELOAD),
    ];
    if tables == Tables::Nft {
        all.push(damage(
            "drift_edit_traffic_ms",
            "drift_edit_rules_ms",
            iptables,
            words(&format!("-w -t nat -R {chain} 2 -j RETURN")),
            "",
        ));
        all.push(damage("drift_ruleset_traffic_ms", "drift_ruleset_rules_ms", "nft", words("flush ruleset"), ""));
    }
    all
}

const fn program(tables: Tables) -> &'static str {
    match tables {
        Tables::Nft => "iptables-nft",
        Tables::Legacy => "iptables-legacy",
    }
}

/// The chain of service `i`: that of a rule for its address in the dispatch tree.
fn chain_of(bed: &Bed, tables: Tables, i: u32) -> Result<String, String> {
    let save = format!("{}-save", program(tables));
    let output = bed.node().check(&save, &["-t", "nat"], "").map_err(|error| error.to_string())?;
    let address = format!("-d {}/32 ", bed::service(i).ip());
    let line = output.lines().find(|line| line.contains(&address) && line.contains("-j KUBE-SVC-"));
    let chain = line.and_then(|line| line.rsplit(' ').next()).ok_or("no rule leads to the service")?;
    Ok(chain.to_owned())
}

/// The rules that the damages are about, as the tool lists them; nothing where there is no such chain.
fn watched(bed: &Bed, tables: Tables, chain: &str) -> Vec<String> {
    let list =
        |chain: &str| bed.node().check(program(tables), &["-w", "-t", "nat", "-S", chain], "").unwrap_or_default();
    ["KUBE-SERVICES", "KUBE-POSTROUTING", "PREROUTING", chain].map(list).into()
}
