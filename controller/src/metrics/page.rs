//! Writes metrics as Prometheus reads them, each with all of its samples.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// A metric's name and what it says.
type Told<'a> = (&'a str, &'a str);

/// What is written.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(super) const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// One without labels.
    pub(super) fn gauge(&mut self, (name, help): Told<'_>, value: usize) -> fmt::Result {
        let help = format!("{help}.");
        let kind = MetricType::Gauge;
        let metric = self.0.encode_descriptor(name, &help, None, kind)?;
        ConstGauge::new(value).encode(metric)
    }

    /// One with a value for each set of labels.
    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        told: Told<'_>,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let samples = samples.into_iter();
        let samples = samples.map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.write(told, MetricType::Gauge, samples)
    }

    /// A counter with a value for each set of labels; its name gets its end by itself.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        told: Told<'_>,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let samples = samples.into_iter();
        let samples = samples.map(|(labels, count)| (labels, ConstCounter::new(count)));
        self.write(told, MetricType::Counter, samples)
    }

    fn write<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        (name, help): Told<'_>,
        kind: MetricType,
        samples: impl Iterator<Item = (L, M)>,
    ) -> fmt::Result {
        let help = format!("{help}.");
        let mut metric = self.0.encode_descriptor(name, &help, None, kind)?;
        for (labels, value) in samples {
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
