//! Which format a client gets.

use super::text::Format;

/// What is sent, and what the header says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    pub format: Format,
    escaping: Escaping,
}

/// How names would be escaped that are not of the usual characters. All names here are, so it changes nothing; the answer
/// repeats what was asked for, as kube-proxy's does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escaping {
    #[default]
    Underscores,
    AllowUtf8,
    Dots,
    Values,
}

impl Negotiated {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> String {
        let (format, escaping) = (self.format, self.escaping.as_str());
        match format {
            Format::Text => format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}"),
            Format::OpenMetrics => {
                format!("application/openmetrics-text; version=1.0.0; charset=utf-8; escaping={escaping}")
            }
        }
    }
}

impl Escaping {
    const ALL: [Escaping; 4] = [Escaping::Underscores, Escaping::AllowUtf8, Escaping::Dots, Escaping::Values];

    const fn as_str(self) -> &'static str {
        match self {
            Escaping::Underscores => "underscores",
            Escaping::AllowUtf8 => "allow-utf-8",
            Escaping::Dots => "dots",
            Escaping::Values => "values",
        }
    }
}

/// Chooses by the value of `Accept`: of the formats that there are the one that is liked most, the first of equals. Where
/// none is accepted, and for anything that cannot be read, the text format.
pub fn negotiate(accept: &str) -> Negotiated {
    let mut best: Option<(f64, Negotiated)> = None;
    for range in accept.split(',') {
        if let Some((quality, offer)) = read(range)
            && quality > best.map_or(0.0, |(quality, _)| quality)
        {
            best = Some((quality, offer));
        }
    }
    best.map(|(_, offer)| offer).unwrap_or_default()
}

/// What a media range asks for, if it is here.
fn read(range: &str) -> Option<(f64, Negotiated)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut version, mut quality, mut escaping) = (None, 1.0, Escaping::default());
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "version" => version = Some(value),
            "q" => quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
            "escaping" => {
                escaping = Escaping::ALL.into_iter().find(|known| known.as_str() == value).unwrap_or_default();
            }
            _ => {}
        }
    }
    let format = match (media.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) | ("*/*" | "text/*", _) => Format::Text,
        _ => return None,
    };
    Some((quality, Negotiated { format, escaping }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_that_is_liked_most() {
        use Format::{OpenMetrics, Text};
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                            q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                            escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let text_only = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.3";
        for (accept, format, escaping) in [
            ("", Text, "underscores"),
            ("*/*", Text, "underscores"),
            ("text/*", Text, "underscores"),
            ("text/html", Text, "underscores"),
            ("application/*", Text, "underscores"),
            ("garbage;;;", Text, "underscores"),
            ("text/plain", Text, "underscores"),
            ("text/plain; version=0.0.4; escaping=dots", Text, "dots"),
            ("text/plain;version=0.0.4;q=0", Text, "underscores"),
            ("application/openmetrics-text", OpenMetrics, "underscores"),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OpenMetrics, "underscores"),
            ("application/openmetrics-text; version=\"1.0.0\"; escaping=values", OpenMetrics, "values"),
            ("application/openmetrics-text; version=0.0.1", Text, "underscores"),
            ("application/openmetrics-text; version=2.0.0", Text, "underscores"),
            ("application/openmetrics-text;q=0, */*;q=0.1", Text, "underscores"),
            ("application/openmetrics-text;q=0", Text, "underscores"),
            ("application/openmetrics-text;q=2", Text, "underscores"),
            ("application/openmetrics-text;q=x,text/plain;q=0.1", Text, "underscores"),
            ("application/openmetrics-text;q=NaN", Text, "underscores"),
            ("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.4", Text, "underscores"),
            ("text/plain;q=0.5,application/openmetrics-text;q=0.9", OpenMetrics, "underscores"),
            ("text/plain,application/openmetrics-text", Text, "underscores"),
            ("application/openmetrics-text,text/plain", OpenMetrics, "underscores"),
            ("application/vnd.google.protobuf;encoding=delimited;q=0.7,text/plain;q=0.2", Text, "underscores"),
            (prometheus_2, OpenMetrics, "underscores"),
            (prometheus_3, OpenMetrics, "allow-utf-8"),
            (text_only, Text, "underscores"),
        ] {
            let negotiated = negotiate(accept);
            assert_eq!(negotiated.format, format, "{accept}");
            assert!(negotiated.content_type().ends_with(&format!("charset=utf-8; escaping={escaping}")), "{accept}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_asked(accept in "[ -~]{0,80}") {
            negotiate(&accept);
        }
    }
}
