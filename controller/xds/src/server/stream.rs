//! One stream as a task: requests in, responses out, newest catalog in between. What is sent is made
//! when the one before was taken, so that a slow Envoy gets the latest state, not a queue of old ones.

use std::collections::VecDeque;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{Stream, unfold};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::bucket::Bucket;
use super::connection::Peer;
use super::wire::Wire;
use super::{Catalog, Shared};
use crate::message::{self, Flavor};
use crate::node::Node;
use crate::registry::Seat;
use crate::session::{Event, Session};
use crate::snapshot::{Revisions, Snapshot, Type, Version};

/// What is sent is of the newest snapshot, or of the one before while clusters are still being added.
const MOST_FILTERS: usize = 64;

/// What a stream says.
pub(super) type Told<W> = Pin<Box<dyn Stream<Item = Result<<W as Wire>::Told, Status>> + Send>>;

/// Why a stream ended before its client wanted it to.
enum Ended {
    /// The client did what is not served.
    Refused(Status),
    /// The server ends, or the connection was lost: nobody did anything wrong.
    Lost(Status),
}

/// A stream that said who it is.
struct Talk<W: Wire> {
    shared: Arc<Shared>,
    /// The one type that this service is for; `None` for all of them.
    only: Option<Type>,
    node: Node,
    seat: Seat,
    session: Session,
    /// Which revisions lie in which version of the filter, for those that may still be sent.
    filters: VecDeque<(Version, Revisions)>,
    /// The same of the one that was sent last.
    told: Option<(Version, Revisions)>,
    /// What lies in the filter that was accepted last.
    filter: Option<Revisions>,
    /// Has not been asked yet what is to be done while its clusters are being added.
    newest: Option<Arc<dyn Catalog>>,
    bucket: Bucket,
    inbound: Streaming<W::Asked>,
    outbound: mpsc::Sender<Result<W::Told, Status>>,
}

/// Opens a stream. What is wrong with it is said on the stream itself: a client may wait for the
/// answer to begin before it says anything.
pub(super) fn open<W: Wire>(
    shared: &Arc<Shared>,
    only: Option<Type>,
    request: Request<Streaming<W::Asked>>,
) -> Result<Response<Told<W>>, Status> {
    let place = Arc::clone(&shared.places).try_acquire_owned();
    let place = place.map_err(|_| {
        let most = shared.limits.streams;
        let full = format!("{most} streams are open already, and more are not served here");
        let status = Status::resource_exhausted(full);
        shared.observer.refused(&status);
        status
    })?;
    let peer = request.extensions().get::<Peer>().cloned();
    let (outbound, receiver) = mpsc::channel(1);
    let shared = Arc::clone(shared);
    let inbound = request.into_inner();
    tokio::spawn(run::<W>(shared, only, peer, place, inbound, outbound));
    let told = unfold(receiver, async |mut receiver| {
        let told = receiver.recv().await?;
        Some((told, receiver))
    });
    Ok(Response::new(Box::pin(told)))
}

async fn run<W: Wire>(
    shared: Arc<Shared>,
    only: Option<Type>,
    peer: Option<Peer>,
    _place: OwnedSemaphorePermit,
    inbound: Streaming<W::Asked>,
    outbound: mpsc::Sender<Result<W::Told, Status>>,
) {
    let observer = Arc::clone(&shared.observer);
    let farewell = outbound.clone();
    let ended = match Talk::<W>::begin(shared, only, peer, inbound, outbound).await {
        Ok(Some((talk, first))) => {
            let node = talk.node.id().to_owned();
            info!(%node, flavor = ?W::FLAVOR, "xds stream opened");
            observer.streams();
            let ended = talk.run(first).await;
            observer.streams();
            match &ended {
                Ok(()) => info!(%node, "xds stream ended"),
                Err(Ended::Refused(status) | Ended::Lost(status)) => {
                    info!(%node, reason = status.message(), "xds stream ended");
                }
            }
            ended
        }
        Ok(None) => Ok(()),
        Err(ended) => Err(ended),
    };
    if let Err(Ended::Refused(status)) = &ended {
        observer.refused(status);
    }
    if let Err(Ended::Refused(status) | Ended::Lost(status)) = ended {
        // Who is gone does not hear it.
        let _ = farewell.send(Err(status)).await;
    }
}

impl<W: Wire> Talk<W> {
    /// Waits for the first request, which says who asks. `None`: the client left without one.
    async fn begin(
        shared: Arc<Shared>,
        only: Option<Type>,
        peer: Option<Peer>,
        mut inbound: Streaming<W::Asked>,
        outbound: mpsc::Sender<Result<W::Told, Status>>,
    ) -> Result<Option<(Self, W::Asked)>, Ended> {
        let patience = shared.limits.patience;
        let mut stop = shared.stop.clone();
        let first = tokio::select! {
            first = timeout(patience, inbound.message()) => first,
            _ = stop.wait_for(|stop| *stop) => return Err(ending()),
        };
        let first = first.map_err(|_| {
            Status::deadline_exceeded(format!("no first request within {}s", patience.as_secs()))
        })?;
        let Some(first) = first.map_err(Ended::of_message)? else {
            return Ok(None);
        };
        let node = Node::read(W::node(&first));
        let node = node.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (names, line) = peer.map_or_else(Default::default, |peer| (peer.names, peer.line));
        if let Some(names) = names
            && !names.allow(node.id())
        {
            warn!(node = node.id(), %names, "xds stream refused: the certificate is not this node's");
            let (id, who) = (node.id(), &names);
            let denied = format!(
                "node `{id}` is not what the client certificate is for, {who}; set `node.id` to one of them"
            );
            return Err(Status::permission_denied(denied).into());
        }
        let full = |full: crate::registry::Full| Status::resource_exhausted(full.to_string());
        let seat = shared.registry.seat(&node, W::FLAVOR, line).map_err(full)?;
        let session = Session::new(W::FLAVOR, shared.limits.names);
        let (burst, rate) = (
            shared.limits.request_burst,
            shared.limits.requests_per_second,
        );
        let talk = Self {
            only,
            node,
            seat,
            session,
            filters: VecDeque::new(),
            told: None,
            filter: None,
            newest: None,
            bucket: Bucket::new(burst, rate, Instant::now()),
            inbound,
            outbound,
            shared,
        };
        Ok(Some((talk, first)))
    }

    async fn run(mut self, first: W::Asked) -> Result<(), Ended> {
        let mut feed = self.shared.feed.clone();
        let mut stop = self.shared.stop.clone();
        self.aim(&feed.borrow_and_update().clone());
        self.take(first)?;
        loop {
            for response in self.responses() {
                debug!(node = self.node.id(), kind = response.kind.short(), version = %response.version, "xds push");
                self.shared.observer.sent(response.kind);
                if W::FLAVOR == Flavor::Sotw && response.kind == Type::Cluster {
                    self.keep(&response).await;
                }
                self.note_filter(&response);
                if self.outbound.send(Ok(W::told(response))).await.is_err() {
                    return Ok(());
                }
            }
            self.seat.note(&self.session, self.filter);
            tokio::select! {
                message = self.inbound.message() => match message.map_err(Ended::of_message)? {
                    Some(asked) => self.take(asked)?,
                    None => return Ok(()),
                },
                changed = feed.changed() => {
                    changed.map_err(|_| ending())?;
                    self.aim(&feed.borrow_and_update().clone());
                }
                _ = stop.wait_for(|stop| *stop) => return Err(ending()),
                () = self.outbound.closed() => return Ok(()),
            }
        }
    }

    fn aim(&mut self, catalog: &Option<Arc<dyn Catalog>>) {
        let Some(catalog) = catalog else {
            return;
        };
        let snapshot = catalog.snapshot(&self.node);
        self.know_filter(&snapshot);
        self.session.aim(snapshot);
        self.newest = Some(Arc::clone(catalog));
    }

    /// What is to be sent now. An Envoy that has to wait for clusters gets the newest decisions at once,
    /// with the policy that it has; one that need not wait gets them with the newest policy.
    fn responses(&mut self) -> Vec<message::Response> {
        let mut responses = self.session.responses();
        let newest = self.newest.take();
        if let Some(policy) = self.session.waits_with()
            && let Some(filter) = newest.and_then(|newest| newest.meanwhile(policy))
        {
            self.know_filter(&filter);
            self.session.meanwhile(filter);
            responses.extend(self.session.responses());
        }
        responses
    }

    fn know_filter(&mut self, snapshot: &Snapshot) {
        for filter in snapshot.of(Type::Extension).values() {
            self.filters
                .push_back((filter.version(), snapshot.revisions()));
        }
        while self.filters.len() > MOST_FILTERS {
            self.filters.pop_front();
        }
    }

    /// Takes note of the filter in a response, if there is one.
    fn note_filter(&mut self, response: &message::Response) {
        if response.kind != Type::Extension {
            return;
        }
        let sent = |version| {
            response
                .resources
                .iter()
                .any(|one| one.version() == version)
        };
        let mut filters = self.filters.iter().rev();
        let found = filters.find(|(version, _)| sent(*version)).copied();
        self.told = found.or(self.told);
    }

    /// Before it is sent: from then on the Envoy may come back with it.
    async fn keep(&self, response: &message::Response) {
        let version = response.version;
        if self.shared.archive.has(version) {
            return;
        }
        let (archive, clusters) = (Arc::clone(&self.shared.archive), response.resources.clone());
        if let Err(error) = spawn_blocking(move || archive.keep(version, clusters)).await {
            warn!(%error, "the clusters that envoys have are not kept");
        }
    }

    fn take(&mut self, asked: W::Asked) -> Result<(), Status> {
        if !self.bucket.take(Instant::now()) {
            let rate = self.shared.limits.requests_per_second;
            return Err(Status::resource_exhausted(format!(
                "more than {rate} requests a second on one stream"
            )));
        }
        let Some(kind) = self.kind(W::type_url(&asked))? else {
            return Ok(());
        };
        if kind == Type::Cluster
            && !self.session.standing(kind).subscribed
            && let Some(past) =
                W::resumed(&asked).and_then(|version| self.shared.archive.find(version))
        {
            self.session.remember(past);
        }
        let event = self.session.request(W::request(kind, asked));
        let event = event.map_err(|refused| Status::resource_exhausted(refused.to_string()))?;
        let (node, observer) = (&self.node, &self.shared.observer);
        match event {
            Event::Asked | Event::Stale => {}
            Event::Accepted { kind, changed } => {
                if let Some((version, revisions)) = self.told
                    && kind == Type::Extension
                    && changed.iter().any(|one| one.version() == version)
                {
                    self.filter = Some(revisions);
                }
                observer.accepted(node, kind, &changed);
            }
            Event::Rejected {
                kind,
                version,
                text,
            } => {
                warn!(node = node.id(), kind = kind.short(), %version, reason = %text, "xds push refused by envoy");
                observer.rejected(node, kind, &text);
            }
        }
        Ok(())
    }

    /// The type that a request is about. `None`: one that is not served here, which is no fault: Envoy
    /// asks ADS for whatever its configuration refers to.
    fn kind(&self, url: &str) -> Result<Option<Type>, Status> {
        let asked = Type::from_url(url);
        match self.only {
            None if url.is_empty() => Err(Status::invalid_argument(
                "a request on an aggregated stream has to name a `type_url`",
            )),
            None => {
                if asked.is_none() {
                    debug!(node = self.node.id(), url, "xds type not served here");
                }
                Ok(asked)
            }
            Some(only) if url.is_empty() || asked == Some(only) => Ok(Some(only)),
            Some(only) => Err(Status::invalid_argument(format!(
                "`{url}` is not what this service is for, `{}`",
                only.url()
            ))),
        }
    }
}

impl Ended {
    /// An error in place of a message: only that of a connection has a source, that of its bytes none.
    fn of_message(status: Status) -> Self {
        match status.source() {
            Some(_) => Self::Lost(status),
            None => Self::Refused(status),
        }
    }
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

fn ending() -> Ended {
    let text = "the controller is ending; what was sent stays in force";
    Ended::Lost(Status::unavailable(text))
}
