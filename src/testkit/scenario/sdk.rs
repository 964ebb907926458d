use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::dice::Dice;

/// Client library, by how it repeats what failed before its caller hears of it.
///
/// All of them repeat 408, 409, 429, 5xx and connections that broke, unless the answer says `x-should-retry: false`, and wait as
/// `retry-after-ms` or `Retry-After` say. They differ in how often, and in what they do when that is long. (That some leave out 409
/// and rare 5xx, or heed no `x-should-retry`, makes no difference to backends and gateways that send none of these.)
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Sdk {
    retries: u32,
    /// Behaviour when asked to wait for longer than this.
    longest: Option<(Duration, Longer)>,
    first: Duration,
    reads_millis: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Longer {
    BackOff,
    GiveUp,
}

const LONGEST_BACKOFF: Duration = Duration::from_secs(8);

impl Sdk {
    /// openai-python 3: twice; asked to wait for more than 120 s it gives up; without being asked 0.5 s, then 1 s.
    pub const fn python() -> Self {
        let longest = Some((Duration::from_secs(120), Longer::GiveUp));
        Self { retries: 2, longest, first: Duration::from_millis(500), reads_millis: true }
    }

    /// openai-python 1 and 2: as 3, but asked to wait for more than 60 s it does as if it had not been asked.
    pub const fn python_2() -> Self {
        Self { longest: Some((Duration::from_secs(60), Longer::BackOff)), ..Self::python() }
    }

    /// openai-node 6: twice, and it waits as long as it is told.
    pub const fn node() -> Self {
        Self { longest: None, ..Self::python() }
    }

    /// Azure.AI.OpenAI for .NET: three times, and it waits as long as it is told; without being told 0.8 s, 1.6 s, 3.2 s.
    pub const fn dotnet() -> Self {
        Self { retries: 3, longest: None, first: Duration::from_millis(800), reads_millis: true }
    }

    /// async-openai for Rust: three times, and it waits for as many whole seconds as it is told; without being told 0.1 s, 0.2 s,
    /// 0.4 s.
    pub const fn async_openai() -> Self {
        Self { first: Duration::from_millis(100), reads_millis: false, ..Self::dotnet() }
    }

    /// Repeats nothing.
    pub const fn none() -> Self {
        Self { retries: 0, ..Self::python() }
    }

    /// Time to wait before the repeat after `tried` failures; `None` to give up. Without an answer the connection broke.
    pub(super) fn wait(
        &self,
        tried: u32,
        answer: Option<(StatusCode, &HeaderMap)>,
        dice: &mut Dice,
    ) -> Option<Duration> {
        if tried >= self.retries {
            return None;
        }
        let asked = match answer {
            Some((status, headers)) => {
                let repeats = matches!(status.as_u16(), 408 | 409 | 429 | 500..);
                if !repeats || headers.get("x-should-retry").is_some_and(|value| value == "false") {
                    return None;
                }
                self.asked(headers)
            }
            None => None,
        };
        match (asked, self.longest) {
            (Some(asked), Some((longest, Longer::GiveUp))) if asked > longest => None,
            (Some(asked), Some((longest, Longer::BackOff))) if asked > longest => Some(self.back_off(tried, dice)),
            (Some(asked), _) => Some(asked),
            (None, _) => Some(self.back_off(tried, dice)),
        }
    }

    fn asked(&self, headers: &HeaderMap) -> Option<Duration> {
        let number = |name| headers.get(name)?.to_str().ok()?.parse::<u64>().ok().filter(|number| *number > 0);
        let millis = number("retry-after-ms").filter(|_| self.reads_millis).map(Duration::from_millis);
        millis.or_else(|| number("retry-after").map(Duration::from_secs))
    }

    fn back_off(&self, tried: u32, dice: &mut Dice) -> Duration {
        let full = self.first.saturating_mul(1 << tried.min(16)).min(LONGEST_BACKOFF);
        full.mul_f64(1.0 - dice.share() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_as_often_and_waits_as_long_as_the_library() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
        };
        let wait = |sdk: Sdk, tried, status, headers: &HeaderMap| {
            let status = StatusCode::from_u16(status).unwrap();
            sdk.wait(tried, Some((status, headers)), &mut Dice::of(0, &[]))
        };
        let (day, soon) = (headers("retry-after", "86400"), headers("retry-after-ms", "300"));
        assert_eq!(wait(Sdk::python(), 1, 429, &soon), Some(Duration::from_millis(300)));
        assert_eq!(wait(Sdk::python(), 2, 429, &soon), None, "two repeats");
        assert_eq!(wait(Sdk::python(), 0, 429, &day), None, "gives up");
        assert!(
            wait(Sdk::python_2(), 0, 429, &day).is_some_and(|wait| wait <= Duration::from_millis(500)),
            "ignores it"
        );
        let tenth = Duration::from_millis(100);
        assert!(wait(Sdk::async_openai(), 0, 429, &soon).is_some_and(|wait| wait <= tenth), "reads no milliseconds");
        assert_eq!(wait(Sdk::node(), 0, 429, &day), Some(Duration::from_secs(86_400)), "does as it is told");
        assert_eq!(wait(Sdk::python(), 0, 400, &soon), None, "the caller's fault");
        assert_eq!(wait(Sdk::python(), 0, 500, &headers("x-should-retry", "false")), None);
        assert_eq!(wait(Sdk::none(), 0, 500, &soon), None);
        let backoff = Sdk::dotnet().wait(1, None, &mut Dice::of(0, &[])).unwrap();
        assert!((Duration::from_millis(1_200)..=Duration::from_millis(1_600)).contains(&backoff), "{backoff:?}");
    }
}
