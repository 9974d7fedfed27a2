//! Every metric of the controller. Names begin with `ombre_`, carry their unit, and counters
//! end in `_total`; labels come from enums. What is counted nowhere else is counted here; how things
//! stand is read when somebody asks, see [`Now`].

mod labels;
mod now;
mod page;

use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ombre_policy::document::{Kind, Revision};
use ombre_policy::release::breaker::Refreshed;
use ombre_policy::release::machine::Command;
use ombre_xds::snapshot::Type;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use self::labels::{
    CommandLabel, KindLabel, LoadLabels, OrderLabels, PollLabels, SaveLabels, TypeLabel,
    UpdateLabel, UpdateLabels, WebhookLabels, XdsLabels,
};
pub use self::labels::{Delivery, Load, Ordered, Poll, Xds};
pub use self::now::Now;

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
    xds_streams: Gauge,
    xds_streams_refused: Counter,
    xds_messages: Family<XdsLabels, Counter>,
    breaker_updates: Family<UpdateLabels, Counter>,
    store_errors: Counter,
    orders: Family<OrderLabels, Counter>,
    webhooks: Family<WebhookLabels, Counter>,
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
            xds_streams: Gauge::default(),
            xds_streams_refused: Counter::default(),
            xds_messages: Family::default(),
            breaker_updates: Family::default(),
            store_errors: Counter::default(),
            orders: Family::default(),
            webhooks: Family::default(),
        };
        metrics.register();
        metrics.begin();
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
        let kind = kind.into();
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
        let result = refreshed.into();
        self.breaker_updates
            .get_or_create(&UpdateLabels { result })
            .inc();
    }

    /// Counts something that the database did not do.
    pub fn store_failed(&self) {
        self.store_errors.inc();
    }

    /// Counts a person's order.
    pub fn order(&self, command: Command, result: Ordered) {
        let command = command.into();
        let labels = OrderLabels { command, result };
        self.orders.get_or_create(&labels).inc();
    }

    /// Notes that there is a webhook at this address, without anything that is secret in it.
    pub fn webhook(&self, webhook: &str) {
        for &result in Delivery::ALL {
            self.delivered(webhook, result, 0);
        }
    }

    /// Counts what became of so many news for a webhook.
    pub fn delivered(&self, webhook: &str, result: Delivery, news: u64) {
        let webhook = webhook.to_owned();
        let labels = WebhookLabels { webhook, result };
        self.webhooks.get_or_create(&labels).inc_by(news);
    }

    /// The text that Prometheus reads.
    pub fn text(&self, now: Now) -> String {
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &now.registry()))
            .and_then(|()| encode_eof(&mut text));
        if let Err(error) = written {
            tracing::error!(%error, "metrics not written");
        }
        text
    }

    /// A counter is there before the first thing is counted: from nothing to one is no increase to
    /// Prometheus.
    fn begin(&self) {
        begin(
            &self.policy_loads,
            Load::ALL.iter().map(|&result| LoadLabels { result }),
        );
        begin(&self.state_saves, [true, false].map(|ok| SaveLabels { ok }));
        let polls = KindLabel::ALL.iter().flat_map(|&kind| {
            let results = Poll::ALL.iter();
            results.map(move |&result| PollLabels { kind, result })
        });
        begin(&self.polls, polls);
        let messages = Type::ALL.map(TypeLabel).into_iter().flat_map(|resource| {
            let messages = Xds::ALL.iter();
            messages.map(move |&message| XdsLabels { resource, message })
        });
        begin(&self.xds_messages, messages);
        begin(
            &self.breaker_updates,
            UpdateLabel::ALL
                .iter()
                .map(|&result| UpdateLabels { result }),
        );
        let orders = CommandLabel::ALL.iter().flat_map(|&command| {
            let results = Ordered::ALL.iter();
            results.map(move |&result| OrderLabels { command, result })
        });
        begin(&self.orders, orders);
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
        registry.register(
            "store_errors",
            "What could not be read from or written to ombre.db",
            self.store_errors.clone(),
        );
        registry.register(
            "orders",
            "Orders that came over the API, by what became of them",
            self.orders.clone(),
        );
        registry.register(
            "webhook_deliveries",
            "News for webhooks: taken, given up after six tries, or missed since the webhook was too slow",
            self.webhooks.clone(),
        );
        registry.register(
            "polls",
            "Long polls that ended, by document and result",
            self.polls.clone(),
        );
    }
}

fn begin<L: Clone + Eq + Hash>(family: &Family<L, Counter>, all: impl IntoIterator<Item = L>) {
    for labels in all {
        family.get_or_create(&labels).inc_by(0);
    }
}

#[cfg(test)]
mod tests;
