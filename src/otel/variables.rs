//! The variables of the environment that the standard has.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::{Conventions, OtlpBuilder, Sampler};

impl OtlpBuilder {
    /// Takes what the standard's variables say, over what was said before. `read` gives the value of one, `None` where it is not set:
    ///
    /// | variable | says |
    /// |---|---|
    /// | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who this is |
    /// | `OTEL_EXPORTER_OTLP_HEADERS` | headers for the collector |
    /// | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | what is traced |
    /// | `OTEL_SEMCONV_STABILITY_OPT_IN` | which names metrics have |
    /// | `OTEL_BSP_SCHEDULE_DELAY`, `OTEL_METRIC_EXPORT_INTERVAL` | how often is sent, in milliseconds |
    ///
    /// One that cannot be understood is ignored; the log names it at `warn`, without its value.
    pub fn variables(mut self, read: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| read(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if let Some(attributes) = read("OTEL_RESOURCE_ATTRIBUTES") {
            match pairs(&attributes) {
                Some(pairs) => self.attributes.extend(pairs),
                None => ignored("OTEL_RESOURCE_ATTRIBUTES"),
            }
        }
        if let Some(name) = read("OTEL_SERVICE_NAME") {
            self.attributes.push(("service.name".to_owned(), name));
        }
        if let Some(headers) = read("OTEL_EXPORTER_OTLP_HEADERS") {
            match pairs(&headers).and_then(|pairs| pairs.into_iter().map(header).collect::<Option<Vec<_>>>()) {
                Some(headers) => self.headers.extend(headers),
                None => ignored("OTEL_EXPORTER_OTLP_HEADERS"),
            }
        }
        if let Some(name) = read("OTEL_TRACES_SAMPLER") {
            match Sampler::named(&name, read("OTEL_TRACES_SAMPLER_ARG").as_deref()) {
                Some(sampler) => self.sampler = sampler,
                None => ignored("OTEL_TRACES_SAMPLER"),
            }
        }
        let opted = read("OTEL_SEMCONV_STABILITY_OPT_IN").unwrap_or_default();
        if opted.split(',').any(|word| word.trim() == "gen_ai_latest_experimental") {
            self.conventions = Conventions::Latest;
        }
        let interval = |name: &str, interval: &mut Duration| match read(name).map(|value| value.parse()) {
            Some(Ok(millis @ 1..)) => *interval = Duration::from_millis(millis),
            Some(_) => ignored(name),
            None => {}
        };
        interval("OTEL_BSP_SCHEDULE_DELAY", &mut self.interval);
        interval("OTEL_METRIC_EXPORT_INTERVAL", &mut self.metric_interval);
        self
    }
}

fn ignored(name: &str) {
    tracing::warn!(name, "a variable of the environment is ignored: it cannot be understood");
}

/// `KEY=VALUE` after `KEY=VALUE`, percent-encoded as in the baggage of W3C. All of them, or none.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(std::borrow::Cow::into_owned);
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let key = decoded(key).filter(|key| !key.is_empty())?;
        Some((key, decoded(value)?))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn header((name, value): (String, String)) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(name).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_all_or_nothing() {
        let read = |text| {
            pairs(text).map(|pairs| pairs.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>())
        };
        assert_eq!(read("a=1, b = two%20words ,c="), Some(vec!["a:1".into(), "b:two words".into(), "c:".into()]));
        assert_eq!(read("a=b=c,"), Some(vec!["a:b=c".into()]));
        for wrong in ["a", "a=1,b", "=1", "a=%ff"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_ignored() {
        let of = |wanted: &'static [(&str, &str)]| {
            super::super::Otlp::builder("http://127.0.0.1:4318").unwrap().variables(move |name| {
                wanted.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let built = of(&[
            ("OTEL_SERVICE_NAME", "gateway-east"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=test"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cr3t,x-team=a"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ]);
        assert_eq!(built.attributes.last().unwrap().1, "gateway-east", "the last word on a name holds");
        assert_eq!(built.headers["x-api-key"], "s3cr3t");
        assert!(!format!("{built:?}").contains("s3cr3t"), "{built:?}");
        assert_eq!((built.sampler, built.conventions), (Sampler::share(0.5).parent_based(), Conventions::Latest));
        assert_eq!(built.metric_interval, Duration::from_millis(100));
        let wrong = of(&[
            ("OTEL_EXPORTER_OTLP_HEADERS", "bad name=1"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
            ("OTEL_SERVICE_NAME", " "),
        ]);
        let fresh = of(&[]);
        assert_eq!((wrong.headers.len(), wrong.sampler, wrong.interval), (0, fresh.sampler, fresh.interval));
        assert_eq!((wrong.metric_interval, wrong.attributes.len()), (fresh.metric_interval, fresh.attributes.len()));
    }
}
