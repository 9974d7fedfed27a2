use std::net::SocketAddr;
use std::sync::Mutex;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc;
use futures_util::future::pending;
use futures_util::stream::unfold;
use ombre_policy::document::Revision;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::*;
use crate::registry::StageName;
use crate::snapshot::Revisions;

mod secured;

const SOON: Duration = Duration::from_secs(10);

struct Fixed(Arc<Snapshot>);

impl Catalog for Fixed {
    fn snapshot(&self, _: &Node) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Seen {
    fn streams(&self) {}

    fn sent(&self, kind: Type) {
        self.note(format!("sent {}", kind.short()));
    }

    fn accepted(&self, node: &Node, kind: Type, changed: &[Arc<Resource>]) {
        let names: Vec<&str> = changed.iter().map(|resource| resource.name()).collect();
        self.note(format!("{} accepted {} {names:?}", node.id(), kind.short()));
    }

    fn rejected(&self, node: &Node, kind: Type, text: &str) {
        self.note(format!("{} rejected {}: {text}", node.id(), kind.short()));
    }

    fn refused(&self, why: &Status) {
        self.note(format!("refused {:?}", why.code()));
    }
}

/// A server on a port of its own.
struct Running {
    address: SocketAddr,
    feed: watch::Sender<Option<Arc<dyn Catalog>>>,
    registry: Arc<Registry>,
    seen: Arc<Seen>,
    stop: watch::Sender<bool>,
}

impl Running {
    async fn start(limits: Limits, tls: Option<Tls>) -> Self {
        let (feed, fed) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let registry = Arc::new(Registry::new(8, 4));
        let seen = Arc::new(Seen::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server {
            feed: fed,
            observer: Arc::clone(&seen) as Arc<dyn Observer>,
            registry: Arc::clone(&registry),
            archive: Arc::default(),
            limits,
            tls,
        };
        tokio::spawn(server.serve(listener, stopped));
        Self {
            address,
            feed,
            registry,
            seen,
            stop,
        }
    }

    fn put(&self, snapshot: Snapshot) {
        self.feed
            .send_replace(Some(Arc::new(Fixed(Arc::new(snapshot)))));
    }

    async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.address);
        Channel::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    async fn sotw(&self) -> Talk<DiscoveryRequest, DiscoveryResponse> {
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel().await);
        let (ask, asks) = asks();
        let told = client
            .stream_aggregated_resources(asks)
            .await
            .unwrap()
            .into_inner();
        Talk { ask, told }
    }

    async fn delta(&self) -> Talk<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
        let mut client = AggregatedDiscoveryServiceClient::new(self.channel().await);
        let (ask, asks) = asks();
        let told = client
            .delta_aggregated_resources(asks)
            .await
            .unwrap()
            .into_inner();
        Talk { ask, told }
    }

    /// Waits until the registry's only node looks like this.
    async fn until(&self, what: &str, check: impl Fn(&crate::registry::Entry) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let list = self.registry.list();
            if list.first().is_some_and(&check) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {list:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The client's end of a stream.
struct Talk<A, T> {
    ask: mpsc::Sender<A>,
    told: Streaming<T>,
}

impl<A: std::fmt::Debug, T> Talk<A, T> {
    async fn say(&self, asked: A) {
        self.ask.send(asked).await.expect("the stream is open");
    }

    async fn next(&mut self) -> Result<Option<T>, Status> {
        timeout(SOON, self.told.message())
            .await
            .expect("an answer in time")
    }

    async fn hear(&mut self) -> T {
        self.next().await.unwrap().expect("a response")
    }

    async fn is_ended_by(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    async fn is_silent(&mut self) {
        let silence = timeout(Duration::from_millis(100), self.told.message()).await;
        assert!(silence.is_err(), "nothing was to be said");
    }
}

impl Talk<DiscoveryRequest, DiscoveryResponse> {
    async fn answer(&self, response: &DiscoveryResponse, names: &[&str], error: Option<&str>) {
        self.say(DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(status),
            ..asked_again(&response.type_url, names)
        })
        .await;
    }
}

fn asks<A: Send + 'static>() -> (mpsc::Sender<A>, impl futures_util::Stream<Item = A> + Send) {
    let (ask, asks) = mpsc::channel::<A>(64);
    (
        ask,
        unfold(asks, async |mut asks| Some((asks.recv().await?, asks))),
    )
}

fn status(message: &str) -> rpc::Status {
    rpc::Status {
        code: 13,
        message: message.to_owned(),
        details: Vec::new(),
    }
}

fn asked_again(url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: url.to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn asked(kind: Type, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node("e1")),
        ..asked_again(kind.url(), names)
    }
}

fn node(id: &str) -> core::Node {
    core::Node {
        id: id.to_owned(),
        ..core::Node::default()
    }
}

/// Clusters of these names, and a filter made of the revision.
fn snapshot(revision: u64, clusters: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::new(Revisions {
        policy: Revision::new(revision),
        decisions: Revision::new(revision + 1),
    });
    for name in clusters {
        let body = name.as_bytes().to_vec();
        snapshot.insert(Type::Cluster, Resource::new(*name, body));
    }
    let body = revision.to_le_bytes().to_vec();
    snapshot.insert(Type::Extension, Resource::new("ombre", body));
    snapshot
}

fn values(response: &DiscoveryResponse) -> Vec<String> {
    let values = response.resources.iter();
    values
        .map(|any| String::from_utf8_lossy(&any.value).into_owned())
        .collect()
}

#[tokio::test]
async fn state_of_the_world_is_pushed_in_order_and_the_registry_follows() {
    let running = Running::start(Limits::default(), None).await;
    let mut talk = running.sotw().await;
    talk.say(asked(Type::Cluster, &[])).await;
    talk.say(asked_again(Type::Extension.url(), &["ombre"]))
        .await;
    talk.is_silent().await;
    running.put(snapshot(5, &["a"]));
    let clusters = talk.hear().await;
    assert_eq!(clusters.type_url, Type::Cluster.url());
    assert_eq!(values(&clusters), ["a"]);
    assert_eq!(clusters.resources[0].type_url, Type::Cluster.url());
    talk.is_silent().await;
    talk.answer(&clusters, &[], None).await;
    let filter = talk.hear().await;
    assert_eq!(filter.type_url, Type::Extension.url());
    talk.answer(&filter, &["ombre"], None).await;
    running
        .until("settled", |entry| {
            entry.applied.is_some() && entry.streams[0].stage == StageName::Settled
        })
        .await;
    running.put(snapshot(7, &["b"]));
    let both = talk.hear().await;
    assert_eq!(values(&both), ["a", "b"], "nothing is removed yet");
    talk.answer(&both, &[], None).await;
    let filter = talk.hear().await;
    talk.answer(&filter, &["ombre"], None).await;
    let last = talk.hear().await;
    assert_eq!(values(&last), ["b"]);
    talk.answer(&last, &[], None).await;
    let revisions = Revisions {
        policy: Revision::new(7),
        decisions: Revision::new(8),
    };
    running
        .until("applied", |entry| entry.applied == Some(revisions))
        .await;
    running
        .until("settled", |entry| {
            entry.streams[0].stage == StageName::Settled
        })
        .await;
    let seen = running.seen.all();
    assert_eq!(
        seen,
        [
            "sent cds",
            "e1 accepted cds [\"a\"]",
            "sent ecds",
            "e1 accepted ecds [\"ombre\"]",
            "sent cds",
            "e1 accepted cds [\"b\"]",
            "sent ecds",
            "e1 accepted ecds [\"ombre\"]",
            "sent cds",
            "e1 accepted cds []",
        ]
    );
    drop(talk);
    running
        .until("gone", |entry| entry.streams.is_empty())
        .await;
    assert_eq!(running.registry.list()[0].applied, Some(revisions));
}

/// A newer policy, and the filter of an older one under newer decisions.
struct Decided {
    newest: Arc<Snapshot>,
    policy: Revision,
    filter: Arc<Snapshot>,
}

impl Catalog for Decided {
    fn snapshot(&self, _: &Node) -> Arc<Snapshot> {
        Arc::clone(&self.newest)
    }

    fn meanwhile(&self, policy: Revision) -> Option<Arc<Snapshot>> {
        (policy == self.policy).then(|| Arc::clone(&self.filter))
    }
}

#[tokio::test]
async fn decisions_are_in_force_while_a_cluster_is_slow() {
    let running = Running::start(Limits::default(), None).await;
    let mut talk = running.sotw().await;
    running.put(snapshot(5, &["a"]));
    talk.say(asked(Type::Cluster, &[])).await;
    talk.say(asked_again(Type::Extension.url(), &["ombre"]))
        .await;
    for names in [&[][..], &["ombre"]] {
        let response = talk.hear().await;
        talk.answer(&response, names, None).await;
    }
    let applied = |policy, decisions| {
        let revisions = Revisions {
            policy: Revision::new(policy),
            decisions: Revision::new(decisions),
        };
        move |entry: &crate::registry::Entry| entry.applied == Some(revisions)
    };
    running.until("the first policy", applied(5, 6)).await;
    let mut filter = Snapshot::new(Revisions {
        policy: Revision::new(5),
        decisions: Revision::new(9),
    });
    filter.insert(Type::Extension, Resource::new("ombre", b"decided".to_vec()));
    running.feed.send_replace(Some(Arc::new(Decided {
        newest: Arc::new(snapshot(8, &["a", "b"])),
        policy: Revision::new(5),
        filter: Arc::new(filter),
    })));
    let slow = talk.hear().await;
    assert_eq!(values(&slow), ["a", "b"]);
    let decided = talk.hear().await;
    assert_eq!(values(&decided), ["decided"]);
    talk.answer(&decided, &["ombre"], None).await;
    running.until("the decision", applied(5, 9)).await;
    talk.answer(&slow, &[], None).await;
    let newest = talk.hear().await;
    assert_eq!(newest.type_url, Type::Extension.url());
    talk.answer(&newest, &["ombre"], None).await;
    running.until("the newest policy", applied(8, 9)).await;
}

#[tokio::test]
async fn delta_says_what_changed_and_what_is_gone() {
    let running = Running::start(Limits::default(), None).await;
    running.put(snapshot(5, &["a", "b"]));
    let mut talk = running.delta().await;
    let first = DeltaDiscoveryRequest {
        node: Some(node("e1")),
        type_url: Type::Cluster.url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    talk.say(first.clone()).await;
    let answer = |nonce: String| DeltaDiscoveryRequest {
        node: None,
        response_nonce: nonce,
        ..first.clone()
    };
    let told = talk.hear().await;
    let names: Vec<&str> = told.resources.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    talk.say(answer(told.nonce)).await;
    running.put(snapshot(6, &["b", "c"]));
    let told = talk.hear().await;
    let names: Vec<&str> = told.resources.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names, told.removed_resources.len()), (vec!["c"], 0));
    talk.say(answer(told.nonce)).await;
    let told = talk.hear().await;
    assert_eq!(
        (told.resources.len(), told.removed_resources),
        (0, vec!["a".to_owned()])
    );
}

#[tokio::test]
async fn what_was_refused_is_not_sent_again_until_it_changes() {
    let running = Running::start(Limits::default(), None).await;
    running.put(snapshot(5, &["a"]));
    let mut talk = running.sotw().await;
    talk.say(asked(Type::Extension, &["ombre"])).await;
    let told = talk.hear().await;
    talk.answer(&told, &["ombre"], Some("no such thing")).await;
    running
        .until("held", |entry| entry.streams[0].stage == StageName::Held)
        .await;
    let (standing, since) = running.registry.list()[0].streams[0].types[&Type::Extension].clone();
    let (version, text) = standing.rejected.unwrap();
    assert_eq!(
        (version.to_string(), text.as_str()),
        (told.version_info, "no such thing")
    );
    assert!(since.is_some());
    running.put(snapshot(5, &["a", "b"]));
    talk.is_silent().await;
    running.put(snapshot(6, &["a"]));
    talk.hear().await;
    let seen = running.seen.all();
    assert!(
        seen.contains(&"e1 rejected ecds: no such thing".to_owned()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_refused_listener_hides_no_accepted_filter() {
    let running = Running::start(Limits::default(), None).await;
    let with_listener = |revision| {
        let mut snapshot = snapshot(revision, &["a"]);
        snapshot.insert(Type::Listener, Resource::new("l", b"l".to_vec()));
        snapshot
    };
    running.put(with_listener(5));
    let mut talk = running.sotw().await;
    talk.say(asked(Type::Listener, &[])).await;
    let listener = talk.hear().await;
    talk.answer(&listener, &[], Some("cannot bind")).await;
    for revision in [5, 7] {
        running.put(with_listener(revision));
        talk.say(asked_again(Type::Extension.url(), &["ombre"]))
            .await;
        let filter = talk.hear().await;
        assert_eq!(filter.type_url, Type::Extension.url());
        talk.answer(&filter, &["ombre"], None).await;
        running
            .until("it decides by the filter", |entry| {
                entry.applied.map(|applied| applied.policy) == Some(Revision::new(revision))
                    && entry.streams[0].stage == StageName::Held
            })
            .await;
    }
}

#[tokio::test]
async fn a_slow_client_gets_the_newest_state_and_no_queue() {
    let running = Running::start(Limits::default(), None).await;
    running.put(snapshot(0, &["a"]));
    let mut talk = running.sotw().await;
    talk.say(asked(Type::Extension, &["ombre"])).await;
    let first = talk.hear().await;
    for revision in 1..=1000 {
        running.put(snapshot(revision, &["a"]));
    }
    talk.answer(&first, &["ombre"], None).await;
    let next = talk.hear().await;
    assert_eq!(next.resources[0].value, 1000_u64.to_le_bytes());
    talk.answer(&next, &["ombre"], None).await;
    talk.is_silent().await;
}

#[tokio::test]
async fn a_stream_has_to_say_who_it_is_first() {
    let limits = Limits {
        patience: Duration::from_millis(50),
        ..Limits::default()
    };
    let running = Running::start(limits, None).await;
    let mut talk = running.sotw().await;
    let status = talk.is_ended_by().await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    for (name, first) in [
        ("no node", asked_again(Type::Cluster.url(), &[])),
        (
            "no id",
            DiscoveryRequest {
                node: Some(node("")),
                ..asked(Type::Cluster, &[])
            },
        ),
    ] {
        let mut talk = running.sotw().await;
        talk.say(first).await;
        let status = talk.is_ended_by().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
        assert!(status.message().contains("node"), "{name}: {status}");
    }
    assert!(running.registry.list().is_empty());
}

#[tokio::test]
async fn limits_end_the_stream_that_breaks_them_and_no_other() {
    let limits = Limits {
        names: 3,
        request_burst: 3,
        requests_per_second: 1,
        message_bytes: 1000,
        ..Limits::default()
    };
    let running = Running::start(limits, None).await;
    running.put(snapshot(5, &["a"]));
    let mut calm = running.sotw().await;
    calm.say(asked(Type::Cluster, &[])).await;
    calm.hear().await;

    let mut talk = running.sotw().await;
    talk.say(asked(Type::Endpoint, &["a", "b", "c", "d"])).await;
    let status = talk.is_ended_by().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("more than 3 names"), "{status}");

    let mut talk = running.sotw().await;
    for _ in 0..4 {
        talk.say(asked(Type::Cluster, &[])).await;
    }
    let status = talk.is_ended_by().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("requests a second"), "{status}");

    let mut talk = running.sotw().await;
    talk.say(asked(Type::Endpoint, &[&"x".repeat(2000)])).await;
    let status = talk.is_ended_by().await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    running.put(snapshot(6, &["b"]));
    calm.is_silent().await;
    running
        .until("one stream is left", |entry| entry.streams.len() == 1)
        .await;
}

#[tokio::test]
async fn places_are_limited_in_total_and_for_each_node() {
    let limits = Limits {
        streams: 5,
        ..Limits::default()
    };
    let running = Running::start(limits, None).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let talk = running.sotw().await;
        talk.say(asked(Type::Cluster, &[])).await;
        open.push(talk);
    }
    running
        .until("four streams", |entry| entry.streams.len() == 4)
        .await;
    let mut fifth = running.sotw().await;
    fifth.say(asked(Type::Cluster, &[])).await;
    let status = fifth.is_ended_by().await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("this node already has 4"),
        "{status}"
    );

    let silent = running.sotw().await;
    let mut client = AggregatedDiscoveryServiceClient::new(running.channel().await);
    let (_ask, asks) = asks();
    let status = client.stream_aggregated_resources(asks).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("5 streams are open"), "{status}");
    drop((silent, open));
    running
        .until("all are gone", |entry| entry.streams.is_empty())
        .await;
    let talk = running.sotw().await;
    talk.say(asked(Type::Cluster, &[])).await;
    running
        .until("there is room again", |entry| entry.streams.len() == 1)
        .await;
}

#[tokio::test]
async fn a_service_for_one_type_serves_that_and_no_other() {
    let running = Running::start(Limits::default(), None).await;
    running.put(snapshot(5, &["a"]));
    let mut client = ClusterDiscoveryServiceClient::new(running.channel().await);
    let (ask, asked_for) = asks();
    let told = client
        .stream_clusters(asked_for)
        .await
        .unwrap()
        .into_inner();
    let mut talk = Talk { ask, told };
    // The type may be left out here.
    talk.say(DiscoveryRequest {
        type_url: String::new(),
        ..asked(Type::Cluster, &[])
    })
    .await;
    assert_eq!(values(&talk.hear().await), ["a"]);
    talk.say(asked(Type::Listener, &[])).await;
    let status = talk.is_ended_by().await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = client
        .fetch_clusters(asked(Type::Cluster, &[]))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn types_that_are_not_served_are_let_pass_but_a_missing_one_is_not() {
    let running = Running::start(Limits::default(), None).await;
    running.put(snapshot(5, &["a"]));
    let mut talk = running.sotw().await;
    let mut other = asked(Type::Cluster, &[]);
    other.type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned();
    talk.say(other).await;
    talk.is_silent().await;
    talk.say(asked_again(Type::Cluster.url(), &[])).await;
    talk.hear().await;
    talk.say(asked_again("", &[])).await;
    let status = talk.is_ended_by().await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn the_end_of_the_server_is_said_on_every_stream() {
    let running = Running::start(Limits::default(), None).await;
    let mut silent = running.sotw().await;
    let mut talk = running.sotw().await;
    talk.say(asked(Type::Cluster, &[])).await;
    running
        .until("connected", |entry| entry.streams.len() == 1)
        .await;
    running.stop.send_replace(true);
    for talk in [&mut silent, &mut talk] {
        let status = talk.is_ended_by().await;
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    assert_eq!(running.seen.all(), [""; 0], "nobody did anything wrong");
}

#[tokio::test]
async fn only_who_breaks_a_rule_is_counted_as_refused() {
    let limits = Limits {
        message_bytes: 1000,
        ..Limits::default()
    };
    let running = Running::start(limits, None).await;
    let refused = || {
        let seen = running.seen.all();
        seen.into_iter().filter(|it| it.starts_with("refused"))
    };
    // Its connection ends in the middle, as when an Envoy is killed.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, server) = (listener.local_addr().unwrap(), running.address);
    let way = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        drop(copy_bidirectional(&mut client, &mut server).await);
    });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel.connect().await.unwrap());
    let (ask, said) = asks();
    let told = client.stream_aggregated_resources(said);
    let killed = Talk {
        ask,
        told: told.await.unwrap().into_inner(),
    };
    // One that has not said who it is.
    let (_silent, said) = asks();
    let _told = client.stream_aggregated_resources(said).await.unwrap();
    killed.say(asked(Type::Cluster, &[])).await;
    let streams =
        |wanted: usize| move |entry: &crate::registry::Entry| entry.streams.len() == wanted;
    running.until("connected", streams(1)).await;
    way.abort();
    running.until("lost", streams(0)).await;
    // It gives its stream up itself, and the connection stays.
    let left = running.sotw().await;
    left.say(asked(Type::Cluster, &[])).await;
    running.until("connected", streams(1)).await;
    drop(left);
    running.until("left", streams(0)).await;
    assert_eq!(refused().count(), 0);

    let mut loud = running.sotw().await;
    loud.say(asked(Type::Cluster, &[])).await;
    loud.say(asked(Type::Endpoint, &[&"x".repeat(2000)])).await;
    let status = loud.is_ended_by().await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert_eq!(refused().collect::<Vec<_>>(), ["refused OutOfRange"]);
}

/// Hands bytes on to the server until told to hand on no more, and keeps every connection open.
async fn relay(server: SocketAddr, mut cut: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            () = async { drop(cut.wait_for(|cut| *cut).await) } => pending::<()>().await,
        }
    });
    address
}

#[tokio::test]
async fn who_closes_its_connection_has_left_and_who_is_cut_off_has_not() {
    let limits = Limits {
        keepalive: Duration::from_millis(100),
        ..Limits::default()
    };
    for left in [true, false] {
        let mut running = Running::start(limits.clone(), None).await;
        let (cut, is_cut) = watch::channel(false);
        running.address = relay(running.address, is_cut).await;
        running.put(snapshot(5, &["a"]));
        let mut talk = running.sotw().await;
        talk.say(asked(Type::Extension, &["ombre"])).await;
        talk.hear().await;
        running.until("there", |node| node.streams.len() == 1).await;
        if left {
            drop(talk);
            running.until("gone", |node| node.left).await;
        } else {
            cut.send_replace(true);
            running.until("lost", |node| node.streams.is_empty()).await;
            running.until("not left", |node| !node.left).await;
        }
    }
}
