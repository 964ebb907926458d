use crate::context::TraceContext;

/// Choice of the requests that are traced.
///
/// As the standard has it: by a share of all trace ids, so that every service of a trace decides alike; and by what the caller decided,
/// where it is [based on that](Self::parent_based). Default: what the caller traces, and everything of callers without a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    share: f64,
    is_parent_based: bool,
}

impl Sampler {
    /// All, whatever their callers decided.
    #[must_use]
    pub const fn always() -> Self {
        Self { share: 1.0, is_parent_based: false }
    }

    /// None, likewise.
    #[must_use]
    pub const fn never() -> Self {
        Self { share: 0.0, is_parent_based: false }
    }

    /// This share, from 0 to 1, likewise.
    #[must_use]
    pub const fn share(share: f64) -> Self {
        Self { share: share.clamp(0.0, 1.0), is_parent_based: false }
    }

    /// Does as the caller does, and decides for callers without a trace only.
    #[must_use]
    pub const fn parent_based(self) -> Self {
        Self { is_parent_based: true, ..self }
    }

    /// By the values of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`; `None` where they are none of the standard's.
    pub(super) fn named(name: &str, argument: Option<&str>) -> Option<Self> {
        let (name, is_parent_based) = match name.strip_prefix("parentbased_") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let share = match name {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => argument.map_or(Ok(1.0), str::parse).ok().filter(|share| (0.0..=1.0).contains(share))?,
            _ => return None,
        };
        Some(Self { share, is_parent_based })
    }

    /// The span of a request, below its caller's if that told one.
    pub(super) fn begin(&self, caller: Option<&TraceContext>) -> TraceContext {
        let span = caller.map_or_else(|| TraceContext::root(true), TraceContext::child);
        let is_sampled = match caller {
            Some(caller) if self.is_parent_based => caller.is_sampled(),
            _ => self.takes(span.trace_id()),
        };
        span.sampled(is_sampled)
    }

    /// By the second half of the id, which is random in every version of the standard.
    fn takes(&self, trace: [u8; 16]) -> bool {
        let place = u128::from_be_bytes(trace) as u64 >> 1;
        (place as f64) < self.share * 2_f64.powi(63)
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::always().parent_based()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_standard() {
        let named = |name, argument| Sampler::named(name, argument);
        assert_eq!(named("always_on", None), Some(Sampler::always()));
        assert_eq!(named("always_off", Some("x")), Some(Sampler::never()));
        assert_eq!(named("traceidratio", Some("0.25")), Some(Sampler::share(0.25)));
        assert_eq!(named("parentbased_always_on", None), Some(Sampler::default()));
        assert_eq!(named("parentbased_traceidratio", None), Some(Sampler::default()));
        for (name, argument) in
            [("", None), ("jaeger_remote", None), ("traceidratio", Some("2")), ("traceidratio", Some("x"))]
        {
            assert_eq!(named(name, argument), None, "{name} {argument:?}");
        }
    }

    #[test]
    fn a_share_is_kept_and_a_caller_is_followed() {
        let sampler = Sampler::share(0.25);
        let taken = (0..4_000).filter(|_| sampler.begin(None).is_sampled()).count();
        assert!((700..1_300).contains(&taken), "{taken} of 4000");
        let caller = TraceContext::root(true);
        let all_alike = (0..100).all(|_| sampler.begin(Some(&caller)).is_sampled() == sampler.takes(caller.trace_id()));
        assert!(all_alike, "one trace, one decision");
        for is_sampled in [true, false] {
            let span = Sampler::never().parent_based().begin(Some(&caller.sampled(is_sampled)));
            assert_eq!((span.is_sampled(), span.parent_id()), (is_sampled, Some(caller.span_id())));
            assert_eq!(span.trace_id(), caller.trace_id());
        }
        assert!(!Sampler::never().parent_based().begin(None).is_sampled());
        assert!(Sampler::always().begin(Some(&caller.sampled(false))).is_sampled());
    }
}
