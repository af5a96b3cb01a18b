//! A strict reader of both formats, for tests: it takes nothing that the formats do not allow, and gives back what was
//! written.

use std::collections::BTreeSet;

use super::super::Format;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Read {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) unit: Option<String>,
    pub(super) samples: Vec<ReadSample>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReadSample {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

/// Reads a whole scrape.
pub(super) fn parse(text: &str, format: Format) -> Result<Vec<Read>, String> {
    let mut body = text;
    if format == Format::OpenMetrics {
        body = text.strip_suffix("# EOF\n").ok_or("it does not end with EOF")?;
    }
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line does not end".to_owned());
    }
    let mut families: Vec<Read> = Vec::new();
    for line in body.lines() {
        read_line(line, format, &mut families).map_err(|error| format!("{error}: {line}"))?;
    }
    let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
    if names.len() != families.len() {
        return Err("a family comes twice".to_owned());
    }
    families.iter().try_for_each(|family| check(family, format))?;
    Ok(families)
}

fn read_line(line: &str, format: Format, families: &mut Vec<Read>) -> Result<(), String> {
    let Some(comment) = line.strip_prefix("# ") else {
        let family = families.last_mut().ok_or("a sample without a family")?;
        family.samples.push(read_sample(line)?);
        return Ok(());
    };
    let mut words = comment.splitn(3, ' ');
    let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return Err("an unknown comment".to_owned());
    };
    if what == "HELP" {
        let help = unescape(rest, format == Format::OpenMetrics)?;
        families.push(Read { name: name.to_owned(), kind: String::new(), help, unit: None, samples: Vec::new() });
        return Ok(());
    }
    let family = families.last_mut().filter(|family| family.name == name).ok_or("metadata of another family")?;
    match what {
        "TYPE" if family.kind.is_empty() && family.samples.is_empty() => family.kind = rest.to_owned(),
        "UNIT" if family.unit.is_none() && format == Format::OpenMetrics => family.unit = Some(rest.to_owned()),
        _ => return Err("metadata in the wrong place".to_owned()),
    }
    Ok(())
}

fn read_sample(line: &str) -> Result<ReadSample, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("no name".to_owned());
    }
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("a label without a value")?;
            let end = closing_quote(after).ok_or("a value that does not end")?;
            labels.push((label.to_owned(), unescape(&after[..end], true)?));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').ok_or("labels that do not end")?;
    }
    let value = rest.strip_prefix(' ').ok_or("no value")?;
    let well_formed =
        ["NaN", "+Inf", "-Inf"].contains(&value) || value.chars().all(|c| c.is_ascii_digit() || "+-.e".contains(c));
    let value = value.parse().ok().filter(|_| well_formed).ok_or("no number")?;
    Ok(ReadSample { name: name.to_owned(), labels, value })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end.then_some(at)
    })
}

fn unescape(text: &str, quotes: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('n') => out.push('\n'),
                Some('"') if quotes => out.push('"'),
                other => return Err(format!("an unknown escape {other:?}")),
            },
            '"' if quotes => return Err("a quotation mark that is not escaped".to_owned()),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn check(family: &Read, format: Format) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{}: {what}", family.name));
    let endings: &[&str] = match (family.kind.as_str(), format) {
        ("counter", Format::OpenMetrics) => &["_total"],
        ("counter" | "gauge", _) => &[""],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        _ => return fail("an unknown type"),
    };
    if family.samples.is_empty() {
        return fail("no samples");
    }
    if family.unit.as_ref().is_some_and(|unit| !family.name.ends_with(&format!("_{unit}"))) {
        return fail("the name does not end with the unit");
    }
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let ending = sample.name.strip_prefix(&family.name);
        if !ending.is_some_and(|ending| endings.contains(&ending)) {
            return fail("a sample of another name");
        }
        let names: BTreeSet<&str> = sample.labels.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() != sample.labels.len() || !seen.insert((sample.name.clone(), sample.labels.clone())) {
            return fail("labels or samples that come twice");
        }
        if family.kind != "gauge" && ending.is_none_or(|e| e != "_sum") && sample.value < 0.0 {
            return fail("a negative count");
        }
    }
    if family.kind == "histogram" { check_buckets(family) } else { Ok(()) }
}

/// Bounds rise to infinity, counts do not fall, and the last is the count.
fn check_buckets(family: &Read) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{}: {what}", family.name));
    type Bucket = (Vec<(String, String)>, f64, f64);
    let mut last: Option<Bucket> = None;
    for sample in &family.samples {
        let ending = sample.name.strip_prefix(&family.name).unwrap_or_default();
        if ending != "_bucket" {
            if let (Some((labels, bound, count)), "_count") = (&last, ending)
                && (*labels != sample.labels || bound.is_finite() || *count != sample.value)
            {
                return fail("the count is not that of the last bucket");
            }
            continue;
        }
        let Some(((name, bound), labels)) = sample.labels.split_last() else { return fail("a bucket without a bound") };
        let Ok(bound) = bound.parse::<f64>() else { return fail("a bound that is no number") };
        if name != "le" {
            return fail("the bound is not the last label");
        }
        if let Some((before, lower, count)) = &last
            && before == labels
            && (*lower >= bound || *count > sample.value)
        {
            return fail("buckets that do not rise");
        }
        last = Some((labels.to_vec(), bound, sample.value));
    }
    if last.is_some_and(|(_, bound, _)| bound.is_infinite()) { Ok(()) } else { fail("no last bucket") }
}

/// The reader itself: what it must not take.
#[test]
fn what_is_not_well_formed_is_told() {
    let head = "# HELP a b\n# TYPE a gauge\n";
    let counter = "# HELP a b\n# TYPE a counter\n";
    let histogram = "# HELP a b\n# TYPE a histogram\n";
    for (text, format) in [
        (format!("{head}a 1"), Format::Text),
        (format!("{head}a 1\n"), Format::OpenMetrics),
        (format!("{head}a 1\n# EOF"), Format::OpenMetrics),
        (format!("{head}b 1\n"), Format::Text),
        (format!("{head}a one\n"), Format::Text),
        (format!("{head}a{{b=\"\n\"}} 1\n"), Format::Text),
        (format!("{head}a{{b=\"\\x\"}} 1\n"), Format::Text),
        (format!("{head}a{{b=\"\",b=\"\"}} 1\n"), Format::Text),
        (format!("{head}a 1\na 1\n"), Format::Text),
        (format!("{head}a 1\n{head}a 1\n"), Format::Text),
        (format!("{counter}a 1\n# EOF\n"), Format::OpenMetrics),
        (format!("{counter}a_total -1\n# EOF\n"), Format::OpenMetrics),
        (format!("{head}# UNIT a seconds\na 1\n# EOF\n"), Format::OpenMetrics),
        (format!("{histogram}a_bucket{{le=\"1\"}} 2\na_bucket{{le=\"+Inf\"}} 1\na_sum 1\na_count 1\n"), Format::Text),
        (format!("{histogram}a_bucket{{le=\"1\"}} 1\na_sum 1\na_count 1\n"), Format::Text),
        (format!("{histogram}a_bucket{{le=\"+Inf\"}} 2\na_sum 1\na_count 1\n"), Format::Text),
        (head.to_owned(), Format::Text),
        ("a 1\n".to_owned(), Format::Text),
    ] {
        assert!(parse(&text, format).is_err(), "{text}");
    }
    assert!(parse(&format!("{head}a{{b=\"\\\\\\n\\\"\"}} -1.5e-07\n"), Format::Text).is_ok());
}
