use http::HeaderValue;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// The format in which metrics are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, which every scraper reads.
    Text,
}

impl Exposition {
    /// The one that the `Accept` header of a scraper asks for: OpenMetrics where it is named and not refused, else the text format.
    #[must_use]
    pub fn accepted(accept: Option<&HeaderValue>) -> Self {
        let named = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let is_wanted = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"))
                && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
        };
        if named.split(',').any(is_wanted) { Self::OpenMetrics } else { Self::Text }
    }

    /// The content type of the text.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4",
        }
    }
}

pub(super) fn encode(registry: &Registry, exposition: Exposition) -> String {
    let mut written = String::new();
    // Writing into a string cannot fail, and nothing else does.
    let _ = text::encode(&mut written, registry);
    match exposition {
        Exposition::OpenMetrics => written,
        Exposition::Text => to_text(&written),
    }
}

/// The same in the older format, in which a counter is described by the name of its samples, and nothing marks the end.
fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 256);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let counted = |line: &str| {
            let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
            Some(name.to_owned())
        };
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let described = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        match (described, lines.peek().and_then(|next| counted(next))) {
            (Some((name, help)), Some(counter)) if name == counter => {
                text.push_str(&format!("# HELP {name}_total {help}\n"));
            }
            _ => match counted(line) {
                Some(name) => text.push_str(&format!("# TYPE {name}_total counter\n")),
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            },
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_describes_counters_by_their_samples() {
        let open = "# HELP a_b A thing.\n# TYPE a_b counter\na_b_total{x=\"# TYPE c counter\"} 1\n# HELP g G.\n# TYPE g gauge\n\
                    # UNIT g seconds\ng{} 2\n# EOF\n";
        let text = "# HELP a_b_total A thing.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE c counter\"} 1\n# HELP g G.\n\
                    # TYPE g gauge\ng{} 2\n";
        assert_eq!(to_text(open), text);
    }

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("text/plain"), Exposition::Text),
            (Some("application/openmetrics-text;q=0, */*"), Exposition::Text),
            (Some("*/*"), Exposition::Text),
            (None, Exposition::Text),
        ] {
            let accept = accept.map(HeaderValue::from_static);
            assert_eq!(Exposition::accepted(accept.as_ref()), expected, "{accept:?}");
        }
    }
}
