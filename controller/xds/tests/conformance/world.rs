//! A server on a free port of the loopback, and what it hands out.

use std::net::SocketAddr;
use std::sync::Arc;

use ombre_xds::node::Node;
use ombre_xds::registry::Registry;
use ombre_xds::server::{Catalog, Feed, Limits, Observer, Server};
use ombre_xds::snapshot::{Resource, Revisions, Snapshot, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A server and the hand that feeds it.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    feed: watch::Sender<Option<Arc<dyn Catalog>>>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

/// The same for every node.
struct Everybody(Arc<Snapshot>);

struct Deaf;

impl Catalog for Everybody {
    fn snapshot(&self, _: &Node) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }
}

impl Observer for Deaf {
    fn streams(&self) {}
    fn sent(&self, _: Type) {}
    fn accepted(&self, _: &Node, _: Type, _: &[Arc<Resource>]) {}
    fn rejected(&self, _: &Node, _: Type, _: &str) {}
    fn refused(&self, _: &tonic::Status) {}
}

impl World {
    /// A server that hands out these: type, name and content.
    pub(crate) async fn with(resources: &[(Type, &str, &str)]) -> Self {
        Self::limited(resources, Limits::default()).await
    }

    pub(crate) async fn limited(resources: &[(Type, &str, &str)], limits: Limits) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), resources, limits).await
    }

    async fn at(address: SocketAddr, resources: &[(Type, &str, &str)], limits: Limits) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (feed, fed): (_, Feed) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            feed: fed,
            observer: Arc::new(Deaf),
            registry: Arc::new(Registry::new(1000, 1000)),
            archive: Arc::default(),
            limits,
            tls: None,
        };
        let running = tokio::spawn(async move {
            server.serve(listener, stopped).await.unwrap();
        });
        let world = Self {
            address,
            feed,
            stop,
            running,
        };
        world.set(resources);
        world
    }

    /// From now on there are these.
    pub(crate) fn set(&self, resources: &[(Type, &str, &str)]) {
        let mut snapshot = Snapshot::new(Revisions::default());
        for (kind, name, content) in resources {
            snapshot.insert(*kind, Resource::new(*name, content.as_bytes().to_vec()));
        }
        self.feed
            .send_replace(Some(Arc::new(Everybody(Arc::new(snapshot)))));
    }

    /// Ends the server; everything that it knew of its clients is gone.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }
}

/// The version under which this content goes.
pub(crate) fn version(content: &str) -> String {
    Resource::new("", content.as_bytes().to_vec())
        .version()
        .to_string()
}
