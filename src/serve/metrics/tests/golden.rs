//! A whole scrape in both formats, without what differs from run to run.

use super::*;

/// Without the process's own figures and points in time. Of buckets the first and the last.
fn told(mode: Mode, format: Format) -> String {
    let families = filled(mode).families().into_iter().filter(|family| {
        let name = family.description.name;
        !name.starts_with("process_") && !name.contains("timestamp")
    });
    let text = write(families.collect(), format);
    let is_shown =
        |line: &&str| !line.contains("_bucket{") || line.contains("le=\"+Inf\"") || line.contains("le=\"0.001\"");
    text.lines().filter(is_shown).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_text_format() {
    assert_eq!(told(Mode::Iptables, Format::Text), include_str!("golden.txt"));
}

#[test]
fn openmetrics() {
    assert_eq!(told(Mode::Iptables, Format::OpenMetrics), include_str!("golden.om"));
}
