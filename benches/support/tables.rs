//! The outcomes as tables in Markdown.

use serde_json::Value;

use crate::measures::Outcome;

/// A table: its title, and for each column its head and the figure.
type Table = (&'static str, &'static [(&'static str, &'static str)]);

const TABLES: [Table; 5] = [
    (
        "Start: seconds from the start of the process to the first connection; CPU seconds; MiB",
        &[
            ("DNS", "start_dns_s"),
            ("default/kubernetes", "start_kubernetes_s"),
            ("CPU until these", "start_first_cpu_s"),
            ("last service", "start_last_s"),
            ("all", "start_all_s"),
            ("CPU user", "start_user_s"),
            ("CPU kernel", "start_system_s"),
            ("MiB then", "start_resident_mib"),
            ("MiB 15 s later", "rest_resident_mib"),
            ("CPU in these", "rest_cpu_s"),
            ("peak MiB", "start_peak_mib"),
            ("chains", "chains"),
            ("rules", "rules"),
        ],
    ),
    (
        "One change: milliseconds from the acknowledged write to the first connection that follows it; CPU ms a change",
        &[
            ("median", "change_ms"),
            ("p99", "change_p99_ms"),
            ("CPU user", "change_user_ms"),
            ("CPU kernel", "change_system_ms"),
            ("kernel alone, one rule", "bare_ms"),
        ],
    ),
    (
        "A burst of changes: seconds, CPU seconds, MiB",
        &[
            ("changes", "burst_changes"),
            ("written", "burst_written_s"),
            ("in force", "burst_in_force_s"),
            ("CPU user", "burst_user_s"),
            ("CPU kernel", "burst_system_s"),
            ("MiB after", "burst_resident_mib"),
            ("peak MiB", "peak_mib"),
        ],
    ),
    (
        "TCP connect of a pod, microseconds",
        &[
            ("direct, no rules", "bare_direct_us"),
            ("foreign, no rules", "bare_foreign_us"),
            ("direct", "connect_direct_us"),
            ("service", "connect_service_us"),
            ("p99", "connect_service_p99_us"),
            ("foreign", "connect_foreign_us"),
            ("p99", "connect_foreign_p99_us"),
        ],
    ),
    (
        "Somebody else changes the rules: milliseconds from the end of the tool until connections to all sampled \
         services go on, and until the rules are back",
        &[
            ("one rule deleted", "drift_delete_traffic_ms"),
            ("rules", "drift_delete_rules_ms"),
            ("one rule edited", "drift_edit_traffic_ms"),
            ("rules", "drift_edit_rules_ms"),
            ("-F KUBE-SERVICES", "drift_flush_traffic_ms"),
            ("rules", "drift_flush_rules_ms"),
            ("reload by restore", "drift_reload_traffic_ms"),
            ("rules", "drift_reload_rules_ms"),
            ("nft flush ruleset", "drift_ruleset_traffic_ms"),
            ("rules", "drift_ruleset_rules_ms"),
        ],
    ),
];

/// Prints all tables, each with those that have a figure for it.
pub fn print(outcomes: &[Outcome]) {
    for (title, columns) in TABLES {
        let has = |outcome: &&Outcome| columns.iter().any(|(_, figure)| outcome.figures.contains_key(*figure));
        let rows: Vec<&Outcome> = outcomes.iter().filter(has).collect();
        if rows.is_empty() {
            continue;
        }
        println!("\n{title}\n");
        let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        println!("| services x endpoints | proxy | load | {} |", heads.join(" | "));
        println!("|{}", "---|".repeat(columns.len() + 3));
        for outcome in rows {
            let figure = |name: &str| outcome.figures.get(name).map_or("-".to_owned(), text);
            let figures: Vec<String> = columns.iter().map(|(_, name)| figure(name)).collect();
            println!("| {} | {} | {} | {} |", outcome.size, outcome.proxy, figure("load"), figures.join(" | "));
        }
    }
    let failed = outcomes.iter().filter_map(|outcome| Some((outcome, outcome.failure.as_ref()?)));
    for (outcome, failure) in failed {
        println!("\n{} at {}: {failure}", outcome.proxy, outcome.size);
    }
}

/// Three digits, and what is before the point whole.
fn text(value: &Value) -> String {
    let number = value.as_f64().unwrap_or(f64::NAN);
    let digits = (2 - number.abs().max(1e-3).log10().floor() as i32).clamp(0, 3);
    format!("{number:.*}", digits as usize)
}
