//! Whatever is told is well formed in both formats, and reads back as it was.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::parser::parse;
use super::*;

const GAUGE: Description = Description::plain("things_total", Kind::Gauge, "a \"help\" \\ text\nof two lines");
const COUNTER: Description = Description::new("work_seconds_total", Kind::Counter, Stability::Beta, "w");
const HISTOGRAM: Description = Description::plain("size_bytes", Kind::Histogram, "s");

fn labels() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof!["[\\\\\"\n{},= ]{0,6}", "\\PC{0,8}", any::<String>()], 0..4)
}

fn named(values: &[String]) -> Labels {
    ["zone", "b", "a", "code"].into_iter().zip(values).map(|(name, value)| (name, value.clone().into())).collect()
}

proptest! {
    #[test]
    fn any_label_and_any_number_reads_back(values in labels(), bits: u64, count in 0u64..u64::MAX, classes in vec(0u64..1 << 50, 4)) {
        let number = f64::from_bits(bits);
        let bounds = [-1.5, 0.0, 1e7];
        let families = vec![
            GAUGE.with([(named(&values), number.into())]),
            COUNTER.with([(named(&values), count.into())]),
            HISTOGRAM.with([(named(&values), Value::Histogram(Distribution::of(bounds, &classes, 1.5)))]),
        ];
        for format in [Format::Text, Format::OpenMetrics] {
            let text = write(families.clone(), format);
            let read = parse(&text, format).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(read.len(), 3);
            let mut expected: Vec<(String, String)> =
                named(&values).into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
            expected.sort();
            prop_assert_eq!(&read[1].samples[0].labels, &expected);
            prop_assert_eq!(&read[1].help, GAUGE.help);
            let value = read[1].samples[0].value;
            prop_assert!(value == number || (value.is_nan() && number.is_nan()));
            prop_assert_eq!(read[2].samples[0].value, count as f64);
            let all: u64 = classes.iter().sum();
            prop_assert_eq!(read[0].samples.last().unwrap().value, all as f64);
            let is_open = format == Format::OpenMetrics;
            prop_assert_eq!(&read[2].name, if is_open { "work_seconds" } else { "work_seconds_total" });
            prop_assert_eq!(read[2].unit.as_deref(), is_open.then_some("seconds"));
            prop_assert_eq!(read[0].unit.as_deref(), is_open.then_some("bytes"));
            prop_assert_eq!(read[1].unit.as_deref(), None);
        }
    }
}

#[test]
fn a_full_scrape_is_well_formed_and_the_same_in_both_formats() {
    for mode in [Mode::Iptables, Mode::Ipvs] {
        let families = filled(mode).families();
        let read = [Format::Text, Format::OpenMetrics].map(|format| {
            let families = parse(&write(families.clone(), format), format).unwrap();
            families.into_iter().flat_map(|family| family.samples).collect::<Vec<_>>()
        });
        assert_eq!(read[0], read[1]);
        assert!(read[0].len() > 300);
    }
}

#[test]
fn before_anything_happened_there_is_a_scrape_as_well() {
    let metrics = Metrics::new(Setup { families: Vec::new(), features: Vec::new(), ..setup(Mode::Ipvs) });
    for format in [Format::Text, Format::OpenMetrics] {
        parse(&metrics.text(format), format).unwrap();
    }
    assert_eq!(write(Vec::new(), Format::OpenMetrics), "# EOF\n");
    assert_eq!(write(vec![GAUGE.with([])], Format::Text), "");
}

/// A count above a million is written as kube-proxy's library does it, and whole in OpenMetrics.
#[test]
fn counts_are_written_as_each_format_has_them() {
    let families = vec![HISTOGRAM.alone(Value::Histogram(Distribution::of([0.5, 1.0], &[2_000_000, 0, 1], 2e6)))];
    let text = "# HELP size_bytes s\n# TYPE size_bytes histogram\nsize_bytes_bucket{le=\"0.5\"} 2e+06\n\
                size_bytes_bucket{le=\"1\"} 2e+06\nsize_bytes_bucket{le=\"+Inf\"} 2.000001e+06\nsize_bytes_sum 2e+06\n\
                size_bytes_count 2.000001e+06\n";
    assert_eq!(write(families.clone(), Format::Text), text);
    let open = "# HELP size_bytes s\n# TYPE size_bytes histogram\n# UNIT size_bytes bytes\n\
                size_bytes_bucket{le=\"0.5\"} 2000000\nsize_bytes_bucket{le=\"1\"} 2000000\n\
                size_bytes_bucket{le=\"+Inf\"} 2000001\nsize_bytes_sum 2e+06\nsize_bytes_count 2000001\n# EOF\n";
    assert_eq!(write(families, Format::OpenMetrics), open);
}
