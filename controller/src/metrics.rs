//! Every metric of the controller. Names begin with `ombre_`, carry their unit, and counters
//! end in `_total`; labels come from enums.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ombre_policy::document::{Kind, Revision};
use ombre_policy::release::breaker::{Circuit, Refreshed};
use ombre_xds::snapshot::Type;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::engine::ClusterView;

/// The registry and what is in it.
pub struct Metrics {
    registry: Registry,
    policy_loads: Family<LoadLabels, Counter>,
    policy_load_seconds: Histogram,
    policy_revision: Gauge<u64, AtomicU64>,
    decisions_revision: Gauge<u64, AtomicU64>,
    state_saves: Family<SaveLabels, Counter>,
    state_saved: Gauge,
    polls: Family<PollLabels, Counter>,
    polls_waiting: Gauge,
    nodes: Gauge,
    xds_streams: Gauge,
    xds_streams_refused: Counter,
    xds_messages: Family<XdsLabels, Counter>,
    breaker_updates: Family<UpdateLabels, Counter>,
    breaker_failed: Family<ClusterLabels, Gauge<f64, AtomicU64>>,
    breaker_open: Family<ClusterLabels, Gauge<f64, AtomicU64>>,
}

/// What became of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// In force.
    Accepted,
    /// Nothing that filters could tell apart.
    Unchanged,
    /// The last good policy stays.
    Refused,
}

/// How a long poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Poll {
    /// With a document.
    Delivered,
    /// With nothing new.
    NothingNew,
    /// Not begun: the certificate is not that of the node.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    result: Load,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SaveLabels {
    ok: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabels {
    kind: KindLabel,
    result: Poll,
}

/// What was said on an xDS stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Xds {
    /// Resources were sent.
    Push,
    /// They were accepted.
    Ack,
    /// They were refused.
    Nack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct XdsLabels {
    resource: TypeLabel,
    message: Xds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TypeLabel(Type);

impl EncodeLabelValue for TypeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.short().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpdateLabels {
    result: UpdateLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum UpdateLabel {
    Begun,
    Removed,
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum KindLabel {
    Policy,
    Decisions,
}

/// A label is a word in lower case, as the docs and everybody's alerts have it.
macro_rules! words {
    ($label:ident { $($variant:ident => $word:literal),+ }) => {
        impl EncodeLabelValue for $label {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
                match self { $(Self::$variant => $word),+ }.encode(encoder)
            }
        }
    };
}

words!(Load { Accepted => "accepted", Unchanged => "unchanged", Refused => "refused" });
words!(Poll { Delivered => "delivered", NothingNew => "nothing_new", Refused => "refused" });
words!(Xds { Push => "push", Ack => "ack", Nack => "nack" });
words!(UpdateLabel { Begun => "begun", Removed => "removed", Dropped => "dropped" });

impl EncodeLabelValue for KindLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Policy => Kind::Policy.name().encode(encoder),
            Self::Decisions => Kind::Decisions.name().encode(encoder),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("ombre"),
            policy_loads: Family::default(),
            policy_load_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            policy_revision: Gauge::default(),
            decisions_revision: Gauge::default(),
            state_saves: Family::default(),
            state_saved: Gauge::default(),
            polls: Family::default(),
            polls_waiting: Gauge::default(),
            nodes: Gauge::default(),
            xds_streams: Gauge::default(),
            xds_streams_refused: Counter::default(),
            xds_messages: Family::default(),
            breaker_updates: Family::default(),
            breaker_failed: Family::default(),
            breaker_open: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// Counts a load of the policy files.
    pub fn load(&self, result: Load) {
        self.policy_loads
            .get_or_create(&LoadLabels { result })
            .inc();
    }

    /// Notes how long reading, checking and compiling took.
    pub fn load_took(&self, time: Duration) {
        self.policy_load_seconds.observe(time.as_secs_f64());
    }

    /// Notes the policy in force.
    pub fn policy_revision(&self, revision: Revision) {
        self.policy_revision.set(revision.get());
    }

    /// Notes the decisions in force.
    pub fn decisions_revision(&self, revision: Revision) {
        self.decisions_revision.set(revision.get());
    }

    /// Counts an attempt to save the state.
    pub fn state_saved(&self, ok: bool) {
        self.state_saves.get_or_create(&SaveLabels { ok }).inc();
        self.state_saved.set(ok.into());
    }

    /// Counts the end of a long poll.
    pub fn poll(&self, kind: Kind, result: Poll) {
        let kind = match kind {
            Kind::Policy => KindLabel::Policy,
            Kind::Decisions => KindLabel::Decisions,
        };
        self.polls.get_or_create(&PollLabels { kind, result }).inc();
    }

    /// Counts what was said on an xDS stream.
    pub fn xds(&self, kind: Type, message: Xds) {
        let resource = TypeLabel(kind);
        self.xds_messages
            .get_or_create(&XdsLabels { resource, message })
            .inc();
    }

    /// Notes that an xDS stream began or ended.
    pub fn xds_streams(&self, open: usize) {
        self.xds_streams
            .set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Counts an xDS stream that was ended because of what the client did.
    pub fn xds_stream_refused(&self) {
        self.xds_streams_refused.inc();
    }

    /// Counts what a configuration update did to a breaker.
    pub fn breaker_update(&self, refreshed: Refreshed) {
        let result = match refreshed {
            Refreshed::Begun => UpdateLabel::Begun,
            Refreshed::Removed => UpdateLabel::Removed,
            Refreshed::Dropped => UpdateLabel::Dropped,
        };
        self.breaker_updates
            .get_or_create(&UpdateLabels { result })
            .inc();
    }

    /// Notes a breaker.
    pub fn breaker(&self, view: &ClusterView) {
        let labels = ClusterLabels {
            cluster: view.breaker.cluster_name.clone(),
        };
        let failed = view.breaker.failure_rate.get() as f64 / 1e6;
        self.breaker_failed.get_or_create(&labels).set(failed);
        let open = match view.state {
            Circuit::Closed => 0.0,
            Circuit::HalfOpen => 0.5,
            Circuit::Open => 1.0,
        };
        self.breaker_open.get_or_create(&labels).set(open);
    }

    /// Forgets a breaker.
    pub fn breaker_gone(&self, cluster: &str) {
        let cluster = cluster.to_owned();
        let labels = ClusterLabels { cluster };
        self.breaker_failed.remove(&labels);
        self.breaker_open.remove(&labels);
    }

    /// The text that Prometheus reads.
    pub fn text(&self, polls_waiting: usize, nodes: usize) -> String {
        self.polls_waiting
            .set(i64::try_from(polls_waiting).unwrap_or(i64::MAX));
        self.nodes.set(i64::try_from(nodes).unwrap_or(i64::MAX));
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics not written");
        }
        text
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(name, help, gauge.clone());
        };
        gauge(
            "state_saved",
            "1 when the state could be saved the last time",
            &self.state_saved,
        );
        gauge(
            "polls_waiting",
            "Long polls that wait now",
            &self.polls_waiting,
        );
        gauge(
            "nodes",
            "Envoys that polled or were served over xDS lately",
            &self.nodes,
        );
        gauge(
            "xds_streams",
            "xDS streams that are open",
            &self.xds_streams,
        );
        registry.register(
            "policy_revision",
            "Revision of the policy in force, Unix milliseconds",
            self.policy_revision.clone(),
        );
        registry.register(
            "decisions_revision",
            "Revision of the decisions in force, Unix milliseconds",
            self.decisions_revision.clone(),
        );
        registry.register(
            "policy_loads",
            "Loads of changed policy files by result",
            self.policy_loads.clone(),
        );
        registry.register_with_unit(
            "policy_load",
            "Time to read, check and compile the policy files",
            Unit::Seconds,
            self.policy_load_seconds.clone(),
        );
        registry.register(
            "state_saves",
            "Attempts to save the state",
            self.state_saves.clone(),
        );
        registry.register(
            "xds_streams_refused",
            "xDS streams that were ended because of what the client did",
            self.xds_streams_refused.clone(),
        );
        registry.register(
            "xds_messages",
            "What was pushed over xDS by type, and how often it was accepted (ack) and refused (nack)",
            self.xds_messages.clone(),
        );
        registry.register(
            "breaker_updates",
            "Configuration updates of clusters, by what they did to the breaker",
            self.breaker_updates.clone(),
        );
        registry.register_with_unit(
            "breaker_failed",
            "Failed share of a cluster's requests over the last 10 s",
            Unit::Ratios,
            self.breaker_failed.clone(),
        );
        registry.register(
            "breaker_open",
            "1 when the cluster's breaker is open, 0.5 when half open, 0 when closed",
            self.breaker_open.clone(),
        );
        registry.register(
            "polls",
            "Long polls that ended, by document and result",
            self.polls.clone(),
        );
    }
}
