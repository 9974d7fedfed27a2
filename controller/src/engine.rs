//! The release loop: at every tick it collects evidence, judges it, steps each release, keeps what
//! changed, and only then performs what follows. One task owns all releases; people's orders and the
//! ends of drains come to it as messages. A restart goes on from what was kept.

mod account;
mod board;
mod breakers;
mod drain;
mod drains;
mod follow;
mod measured;
mod news;
mod perform;
mod service;
mod start;
mod tick;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ombre_policy::duration::Moment;
use ombre_policy::release::machine::{Event, Order, Refusal};
use reqwest::Client;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::clients::Clients;
use crate::clock::Clock;
use crate::evidence::Collector;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::publish::Publisher;
use crate::store::{Record, Store, StoreError};
use crate::xds::ClusterAccepted;
pub use board::{Board, HOLDS, ServiceView};
use breakers::Breakers;
pub use breakers::ClusterView;
use drain::Applied;
pub(crate) use follow::whole;
pub use measured::{ALERTS, Measured};
pub use news::News;
use news::Wire;
use service::Service;
pub use start::Start;

/// Ticks are this long when no policy says otherwise.
const TICK: Duration = Duration::from_secs(1);
/// While an outage is suspected, a tick is looked at in so many parts.
const LOOKS: u32 = 4;

/// What the API needs of the loop.
#[derive(Clone)]
pub struct Handle {
    orders: mpsc::Sender<Message>,
    board: watch::Receiver<Arc<Board>>,
    news: Wire,
    store: Arc<OnceLock<Arc<Store>>>,
    clock: Clock,
}

/// Why an order was not followed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no such release.
    #[error("`{0}` is not a service with a `rollout` and a `degrade` block in the policy in force")]
    NoRelease(String),
    /// The release is not in a state for it.
    #[error("{0}")]
    Refused(Refusal),
    /// It would be lost in a restart.
    #[error("the order cannot be kept and is not followed: {0}")]
    Store(String),
    /// The loop is not running.
    #[error("the release loop is not running; /readyz says why")]
    Stopped,
}

/// What comes to the loop between ticks.
pub(crate) enum Message {
    /// A person's order.
    Order {
        service: String,
        order: Order,
        reply: oneshot::Sender<Result<(), OrderError>>,
    },
    /// The end of a drain.
    Drain(Applied),
    /// An Envoy runs another configuration of a cluster.
    Cluster(ClusterAccepted),
}

/// The loop.
pub struct Engine {
    publisher: Arc<Publisher>,
    nodes: Arc<Nodes>,
    store: Arc<Store>,
    collector: Collector,
    clock: Clock,
    metrics: Arc<Metrics>,
    client: Client,
    /// Releases that the policy in force has.
    services: BTreeMap<String, Service>,
    /// Releases that were kept and that the policy in force does not have, or not yet.
    dormant: BTreeMap<String, Record>,
    followed: Option<follow::Followed>,
    clusters: Arc<Vec<String>>,
    breakers: Breakers,
    inbox: mpsc::Receiver<Message>,
    outbox: mpsc::Sender<Message>,
    board: watch::Sender<Arc<Board>>,
    news: Wire,
    store_error: Option<String>,
    next_probe: Instant,
}

/// What the loop works with.
pub struct Parts {
    /// Where decisions go.
    pub publisher: Arc<Publisher>,
    /// Who confirms them.
    pub nodes: Arc<Nodes>,
    /// Where evidence comes from.
    pub collector: Collector,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// By which sync logs are applied.
    pub clients: Clients,
    /// By which it is told what time it is.
    pub clock: Clock,
}

impl Handle {
    /// A handle to no loop where none is needed.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        let (orders, _) = mpsc::channel(1);
        let (_, board) = watch::channel(Arc::default());
        Self {
            orders,
            board,
            news: Wire::with_room(1),
            store: Arc::default(),
            clock: Clock::start(),
        }
    }

    /// How all releases stand now.
    pub fn board(&self) -> Arc<Board> {
        self.board.borrow().clone()
    }

    /// The time by which releases are moved.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// What happens from now on, without the evidence.
    pub fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.events()
    }

    /// What is counted from now on.
    pub fn evidence(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.evidence()
    }

    /// Tells every listener.
    #[cfg(test)]
    pub(crate) fn tell(&self, news: News) {
        self.news.tell(news);
    }

    /// How many listen.
    #[cfg(test)]
    pub(crate) fn listeners(&self) -> usize {
        self.news.listeners()
    }

    /// What was kept, once it is taken up.
    pub fn store(&self) -> Option<Arc<Store>> {
        self.store.get().cloned()
    }

    /// Gives an order and waits until it is followed and kept.
    ///
    /// # Errors
    /// Why it was not followed.
    pub async fn order(&self, service: String, order: Order) -> Result<(), OrderError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Order {
            service,
            order,
            reply,
        };
        let sent = self.orders.send(message).await;
        sent.map_err(|_| OrderError::Stopped)?;
        answer.await.unwrap_or(Err(OrderError::Stopped))
    }

    /// Hands on every configuration of a cluster that Envoy accepts, for as long as there are any.
    pub async fn follow_clusters(self, mut accepted: broadcast::Receiver<ClusterAccepted>) {
        loop {
            match accepted.recv().await {
                Ok(accepted) => {
                    if self.orders.send(Message::Cluster(accepted)).await.is_err() {
                        return;
                    }
                }
                // Each breaker that was missed goes on with the evidence that it has.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

impl Engine {
    /// Runs until told to stop. A drain under way is left where it is, and goes on after a restart.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut next = Instant::now();
        let (mut left, mut pause) = (0, Duration::ZERO);
        loop {
            tokio::select! {
                biased;
                () = told(&mut stop) => break,
                Some(message) = self.inbox.recv() => self.take(message).await,
                () = sleep_until(next) => {
                    if left == 0 {
                        let period = self.tick().await;
                        left = if self.suspects_outage() { LOOKS } else { 1 };
                        pause = period / left;
                    } else {
                        self.look().await;
                    }
                    left -= 1;
                    // A tick that took too long is not made up for.
                    next = (next + pause).max(Instant::now());
                }
            }
            self.show();
        }
        for service in self.services.values_mut() {
            service.stop_drain().await;
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Order {
                service,
                order,
                reply,
            } => {
                info!(%service, command = ?order.command, actor = %order.actor, reason = %order.reason, "order");
                let result = self.ordered(&service, order).await;
                // Whoever asked may have gone away; the order stands.
                let _ = reply.send(result);
            }
            Message::Cluster(accepted) => {
                self.breakers.accepted(accepted.cluster, accepted.revision);
            }
            Message::Drain(applied) => self.drained(applied).await,
        }
    }

    async fn ordered(&mut self, name: &str, order: Order) -> Result<(), OrderError> {
        if !self.services.contains_key(name) {
            // It may be of a policy that came into force since the last tick.
            self.follow().await;
        }
        if !self.services.contains_key(name) {
            return Err(OrderError::NoRelease(name.to_owned()));
        }
        let forced = self.gives_up(name, &order.command);
        let outcome = self.step(name, Event::Operator(order)).await;
        match outcome {
            perform::Outcome::Stepped(None) => {
                if forced {
                    self.give_up(name).await;
                }
                Ok(())
            }
            perform::Outcome::Stepped(Some(refusal)) => Err(OrderError::Refused(refusal)),
            perform::Outcome::NotKept(error) => Err(OrderError::Store(error)),
        }
    }

    /// Runs something that blocks on the store.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let store = Arc::clone(&self.store);
        let done: Result<_, JoinError> = spawn_blocking(move || work(&store)).await;
        let done = match done {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if done.is_err() {
            self.metrics.store_failed();
        }
        done
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn note_store(&mut self, error: Option<String>) {
        if let Some(error) = &error
            && self.store_error.is_none()
        {
            error!(%error, "release not kept: nothing moves until it can be");
        }
        if error.is_none() && self.store_error.is_some() {
            info!("releases are kept again");
        }
        self.store_error = error;
    }
}

/// Waits until `stop` becomes true, or nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
