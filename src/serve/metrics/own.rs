//! weir's own metrics, beside kube-proxy's. Their names begin with `weir_`.

use std::borrow::Cow;
use std::time::Duration;

use super::family::{Description, Distribution, Family, Kind, Labels, Value};
use super::readings::Readings;
use crate::engine::{DifferenceKind, Failures, Status, WAIT_BOUNDS};
use crate::net::Family as IpFamily;

/// So many quarantined service ports are named. All of them are counted.
const MOST_NAMED: usize = 100;

macro_rules! describe {
    ($($constant:ident = $kind:ident $name:literal: $help:literal;)*) => {
        $(const $constant: Description = Description::plain($name, Kind::$kind, $help);)*
        /// All of them, for the test that compares names with a list.
        #[cfg(test)]
        pub(super) const ALL: &[Description] = &[$($constant),*];
    };
}

describe! {
    BUILD = Gauge "weir_build_info": "1, with the version of weir as a label.";
    WAIT = Histogram "weir_change_to_kernel_seconds":
        "Time from a change of a service port being known to the kernel's yes, in seconds. The oldest change counts where \
         several went in one; what was there at the start does not count.";
    PORTS = Gauge "weir_service_ports": "Service ports in force.";
    UNAPPLIED = Gauge "weir_unapplied_service_ports": "Service ports whose newest state is not in the kernel yet.";
    OLDEST = Gauge "weir_oldest_unapplied_change_age_seconds":
        "Age of the oldest change that is not in the kernel yet, in seconds; 0 if there is none.";
    OBSERVED = Gauge "weir_kernel_observed_timestamp_seconds":
        "When the kernel was last read as a whole and compared, in seconds since 1970.";
    DRIFT = Counter "weir_drift_objects_total": "Kernel objects of ours that were found changed by somebody else.";
    REPAIRED = Counter "weir_drift_repaired_objects_total":
        "Kernel objects of ours that somebody else changed and that were put right.";
    QUARANTINED = Gauge "weir_quarantined_service_ports":
        "Service ports that the kernel refuses by themselves and that are kept out of all others' changes.";
    QUARANTINED_PORT = Gauge "weir_quarantined_service_port":
        "1 for each quarantined service port, at most 100 of them; kept says whether its last good state is in force.";
    QUARANTINES = Counter "weir_quarantines_total": "Times that a service port went into quarantine.";
    APPLIES = Counter "weir_applies_total": "Batches of changes that the kernel took.";
    APPLY_FAILURES = Counter "weir_apply_failures_total": "Batches of changes that failed, by what the kernel said.";
    COMPARES = Counter "weir_compares_total": "Comparisons with the kernel that succeeded.";
    COMPARE_FAILURES = Counter "weir_compare_failures_total":
        "Comparisons with the kernel that failed: it could not be read, or what the difference was refused with.";
    REBUILDS = Counter "weir_rebuilds_total": "Times that everything was written again after a refused comparison.";
    RETRIES = Counter "weir_retries_total": "Actions that failed and were put off to be tried again.";
    SENT_BYTES = Counter "weir_kernel_sent_bytes_total": "Bytes sent to the kernel, by families of objects.";
    SENT_MESSAGES = Counter "weir_kernel_sent_messages_total":
        "Messages sent to the kernel, by families of objects; lines, where a tool reads them.";
    SUBSTITUTED = Gauge "weir_substituted_schedulers":
        "Service ports that are spread by the default scheduler because the kernel lacks theirs.";
    DENIED = Gauge "weir_denied_frontends":
        "Frontends that are not served because somebody else's virtual server is in their place.";
    DRAINING = Gauge "weir_draining_endpoints": "Endpoints that are kept for their last connections.";
    CLEANUPS = Counter "weir_conntrack_cleanups_total": "Cleanups of connection tracking that succeeded.";
    CLEANUP_FAILURES = Counter "weir_conntrack_cleanup_failures_total":
        "Cleanups of connection tracking that failed; each is tried again.";
    CONNECTED = Gauge "weir_source_connected": "1 if the API server answers for this kind of objects.";
    SYNCED = Gauge "weir_source_synced": "1 if a complete list of this kind of objects has arrived.";
    RELISTS = Counter "weir_source_relists_total": "Complete lists after the first.";
    SOURCE_FAILURES = Counter "weir_source_failures_total": "Failed requests and broken watches.";
    LEFT_OUT = Counter "weir_source_unusable_parts_total": "Parts of objects that were left out as unusable.";
    RELOADS = Counter "weir_configuration_reloads_total": "Changes of the configuration, by what became of them.";
    ALLOCATED = Gauge "weir_memory_allocated_bytes": "Memory in use by the program, as its allocator tells.";
    RESIDENT = Gauge "weir_memory_resident_bytes": "Memory in physical pages, as the program's allocator tells.";
}

fn label(name: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
    vec![(name, value.into())]
}

fn ip_family(family: IpFamily) -> Labels {
    label("ip_family", family.as_str())
}

pub(super) fn build(version: &str) -> Family {
    BUILD.with([(label("version", version.to_owned()), Value::from(1u64))])
}

/// How often which outcome a change of the configuration had.
pub(super) fn reloads(applied: u64, rejected: u64) -> Family {
    RELOADS.with([(label("result", "applied"), applied.into()), (label("result", "rejected"), rejected.into())])
}

/// What the engine tells. `since_1970` gives a moment of its clock as such.
pub(super) fn engine(
    status: &Status,
    now: Duration,
    served: &[IpFamily],
    since_1970: impl Fn(Duration) -> f64,
) -> Vec<Family> {
    let counters = &status.counters;
    let per_family = |description: Description, figure: &dyn Fn(IpFamily) -> Value| {
        description.with(served.iter().map(|family| (ip_family(*family), figure(*family))))
    };
    let oldest = |family| {
        let oldest = status.families.get(family).oldest_unapplied;
        oldest.map_or(0.0, |since| now.saturating_sub(since).as_secs_f64())
    };
    let mut families = vec![
        per_family(WAIT, &|family| waits(status, family)),
        per_family(PORTS, &|family| status.families.get(family).applied.into()),
        per_family(UNAPPLIED, &|family| status.families.get(family).unapplied.into()),
        per_family(OLDEST, &|family| oldest(family).into()),
        per_family(QUARANTINED, &|family| {
            status.quarantined.iter().filter(|entry| entry.key.family == family).count().into()
        }),
        quarantined(status),
        QUARANTINES.alone(counters.quarantines),
        APPLIES.alone(counters.applies),
        failures(APPLY_FAILURES, counters.apply_failures, None),
        COMPARES.with([
            (label("scope", "full"), counters.repairs.into()),
            (label("scope", "partial"), counters.partial_repairs.into()),
        ]),
        failures(COMPARE_FAILURES, counters.repair_failures, Some(counters.observe_failures)),
        REBUILDS.alone(counters.rebuilds),
        RETRIES.alone(counters.retries),
        DRIFT.with(counters.drift.iter().map(|(kind, count)| (difference(kind), (*count).into()))),
        REPAIRED.with(counters.drift_repaired.iter().map(|(kind, count)| (difference(kind), (*count).into()))),
        SUBSTITUTED.alone(status.standing.substituted),
        DENIED.alone(status.standing.denied),
        DRAINING.alone(status.standing.draining),
    ];
    families.extend(status.last_observed.map(|at| OBSERVED.alone(since_1970(at))));
    families
}

fn waits(status: &Status, family: IpFamily) -> Value {
    let waits = status.counters.waits.get(family);
    let bounds = WAIT_BOUNDS.iter().map(Duration::as_secs_f64);
    Value::Histogram(Distribution::of(bounds, waits.counts(), waits.sum().as_secs_f64()))
}

fn quarantined(status: &Status) -> Family {
    QUARANTINED_PORT.with(status.quarantined.iter().take(MOST_NAMED).map(|entry| {
        let name = &entry.key.name;
        let labels: Labels = vec![
            ("ip_family", entry.key.family.as_str().into()),
            ("namespace", name.service.namespace.to_string().into()),
            ("service", name.service.name.to_string().into()),
            ("port", name.port.to_string().into()),
            ("protocol", name.protocol.upper().into()),
            ("kept", entry.kept.to_string().into()),
        ];
        (labels, Value::from(1u64))
    }))
}

fn failures(description: Description, failures: Failures, unreadable: Option<u64>) -> Family {
    let reasons = [
        ("busy", Some(failures.busy)),
        ("refused", Some(failures.refused)),
        ("unavailable", Some(failures.unavailable)),
        ("unreadable", unreadable),
    ];
    description.with(reasons.into_iter().filter_map(|(reason, count)| Some((label("reason", reason), count?.into()))))
}

fn difference(kind: &DifferenceKind) -> Labels {
    vec![("ip_family", kind.family.as_str().into()), ("table", kind.table.into()), ("kind", kind.kind.into())]
}

/// What the parts of the node tell.
pub(super) fn parts(readings: &dyn Readings, served: &[IpFamily]) -> Vec<Family> {
    let sent = readings.sent();
    let followed = readings.followed();
    let mut families = vec![
        SENT_BYTES.with(sent.iter().map(|sent| (label("objects", sent.objects), sent.bytes.into()))),
        SENT_MESSAGES.with(sent.iter().map(|sent| (label("objects", sent.objects), sent.messages.into()))),
        CONNECTED.with(followed.iter().map(|kind| (label("kind", kind.kind), kind.connected.into()))),
        SYNCED.with(followed.iter().map(|kind| (label("kind", kind.kind), kind.synced.into()))),
        RELISTS.with(followed.iter().map(|kind| (label("kind", kind.kind), kind.relists.into()))),
        SOURCE_FAILURES.with(followed.iter().map(|kind| (label("kind", kind.kind), kind.failures.into()))),
    ];
    if let Some(cleanups) = readings.cleanups() {
        let each = |figure: fn(&super::Cleanups) -> u64| {
            served.iter().map(move |family| (ip_family(*family), figure(cleanups.get(*family)).into()))
        };
        families.push(CLEANUPS.with(each(|cleanups| cleanups.runs)));
        families.push(CLEANUP_FAILURES.with(each(|cleanups| cleanups.failures)));
    }
    families.extend(readings.left_out().map(|count| LEFT_OUT.alone(count)));
    if let Some(memory) = readings.memory() {
        families.push(ALLOCATED.alone(memory.allocated));
        families.push(RESIDENT.alone(memory.resident));
    }
    families
}
