use super::proto::Message;

/// In seconds, from 10 ms on, doubling: for operations of generative AI.
pub(super) const SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// In seconds, for requests over HTTP.
pub(super) const OF_HTTP: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// In seconds, until a first token.
pub(super) const TO_FIRST: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// In seconds, for each further token.
pub(super) const PER_TOKEN: &[f64] = &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// Powers of four.
pub(super) const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// One more than the longest list of bounds.
const MOST: usize = TO_FIRST.len() + 1;

/// Counts by value, since the start.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    counts: [u64; MOST],
    sum: f64,
}

impl Histogram {
    pub(super) const fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: [0; MOST], sum: 0.0 }
    }

    pub(super) fn add(&mut self, value: f64) {
        // A bound belongs to the bucket that it ends.
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// The fields of `opentelemetry.proto.metrics.v1.HistogramDataPoint` that are its own.
    pub(super) fn write(&self, point: &mut Message) {
        let counts = &self.counts[..=self.bounds.len()];
        point.fixed64(4, counts.iter().sum());
        point.double(5, self.sum);
        point.packed(6, counts.iter().copied());
        point.packed(7, self.bounds.iter().map(|bound| bound.to_bits()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_is_counted_once_and_below_its_bound(values in proptest::collection::vec(0.0_f64..200.0, 0..40)) {
            for bounds in [SECONDS, OF_HTTP, TO_FIRST, PER_TOKEN, TOKENS] {
                prop_assert!(bounds.is_sorted() && bounds.len() < MOST);
                let mut histogram = Histogram::new(bounds);
                values.iter().for_each(|value| histogram.add(*value));
                prop_assert_eq!(histogram.counts.iter().sum::<u64>(), values.len() as u64);
                for (at, bound) in bounds.iter().enumerate() {
                    let below = values.iter().filter(|value| *value <= bound).count() as u64;
                    prop_assert_eq!(histogram.counts[..=at].iter().sum::<u64>(), below);
                }
                prop_assert_eq!(histogram.is_empty(), values.is_empty());
            }
        }
    }
}
