//! A client for both forms of the protocol and for both kinds of service, which says exactly what a
//! test tells it to, and nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient as Cds;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Ads;
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient as Eds;
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient as Ecds;
use envoy_types::pb::envoy::service::listener::v3::listener_discovery_service_client::ListenerDiscoveryServiceClient as Lds;
use envoy_types::pb::envoy::service::route::v3::route_discovery_service_client::RouteDiscoveryServiceClient as Rds;
use envoy_types::pb::google::rpc;
use futures_util::Stream;
use futures_util::stream::unfold;
use ombre_xds::message::Flavor;
use ombre_xds::snapshot::Type;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::world::World;

/// An answer that takes longer does not come.
const DEADLINE: Duration = Duration::from_secs(10);
/// Whoever is silent for that long has nothing to say. What is not said can only be waited for.
const SILENCE: Duration = Duration::from_millis(60);

/// A stream.
pub(crate) struct Client {
    wire: Wire,
    node: Option<Node>,
    /// What is wanted of each type, and the last nonce taken.
    wanted: BTreeMap<Type, BTreeSet<String>>,
    nonces: BTreeMap<Type, String>,
    pub(crate) versions: BTreeMap<Type, String>,
}

enum Wire {
    Sotw(
        mpsc::UnboundedSender<pb::DiscoveryRequest>,
        Streaming<pb::DiscoveryResponse>,
    ),
    Delta(
        mpsc::UnboundedSender<pb::DeltaDiscoveryRequest>,
        Streaming<pb::DeltaDiscoveryResponse>,
    ),
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) kind: Type,
    pub(crate) nonce: String,
    pub(crate) version: String,
    /// Name (delta only: the state of the world has it in the body) and content.
    pub(crate) contents: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) removed: Vec<String>,
}

/// Which service a stream is opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Aggregated,
    Own(Type),
}

impl Client {
    /// Opens a stream of node `test`.
    pub(crate) async fn open(world: &World, flavor: Flavor, service: Service) -> Self {
        Self::of_node(world, flavor, service, "test").await
    }

    pub(crate) async fn ads(world: &World, flavor: Flavor) -> Self {
        Self::open(world, flavor, Service::Aggregated).await
    }

    pub(crate) async fn of_node(
        world: &World,
        flavor: Flavor,
        service: Service,
        node: &str,
    ) -> Self {
        let address = format!("http://{}", world.address);
        let endpoint = Channel::from_shared(address).unwrap();
        let channel = timeout(DEADLINE, endpoint.connect())
            .await
            .unwrap()
            .unwrap();
        let wire = match flavor {
            Flavor::Sotw => {
                let (sender, requests) = outbound();
                let stream = match service {
                    Service::Aggregated => {
                        Ads::new(channel)
                            .stream_aggregated_resources(requests)
                            .await
                    }
                    Service::Own(Type::Cluster) => {
                        Cds::new(channel).stream_clusters(requests).await
                    }
                    Service::Own(Type::Endpoint) => {
                        Eds::new(channel).stream_endpoints(requests).await
                    }
                    Service::Own(Type::Extension) => {
                        Ecds::new(channel).stream_extension_configs(requests).await
                    }
                    Service::Own(Type::Listener) => {
                        Lds::new(channel).stream_listeners(requests).await
                    }
                    Service::Own(Type::Route) => Rds::new(channel).stream_routes(requests).await,
                };
                Wire::Sotw(sender, stream.unwrap().into_inner())
            }
            Flavor::Delta => {
                let (sender, requests) = outbound();
                let stream = match service {
                    Service::Aggregated => {
                        Ads::new(channel).delta_aggregated_resources(requests).await
                    }
                    Service::Own(Type::Cluster) => Cds::new(channel).delta_clusters(requests).await,
                    Service::Own(Type::Endpoint) => {
                        Eds::new(channel).delta_endpoints(requests).await
                    }
                    Service::Own(Type::Extension) => {
                        Ecds::new(channel).delta_extension_configs(requests).await
                    }
                    Service::Own(Type::Listener) => {
                        Lds::new(channel).delta_listeners(requests).await
                    }
                    Service::Own(Type::Route) => Rds::new(channel).delta_routes(requests).await,
                };
                Wire::Delta(sender, stream.unwrap().into_inner())
            }
        };
        let node = Node {
            id: node.to_owned(),
            ..Node::default()
        };
        Self {
            wire,
            node: Some(node),
            wanted: BTreeMap::new(),
            nonces: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    /// The node is left out, even of the first request.
    pub(crate) fn forget_node(&mut self) {
        self.node = None;
    }

    /// The versions of what is there from an earlier stream (delta), or that there is something.
    pub(crate) fn resume(&mut self, kind: Type, names: &[&str], known: &[(&str, String)]) {
        let had = self.versions.entry(kind);
        had.or_insert_with(|| "0000000000000001".to_owned());
        let known = known
            .iter()
            .map(|(name, version)| ((*name).to_owned(), version.clone()));
        let known = known.collect();
        self.want(kind, names);
        self.say(kind, "", None, names, &[], known);
    }

    /// Asks for everything, in the old way: by naming nothing.
    pub(crate) fn ask_all(&mut self, kind: Type) {
        self.say(kind, "", None, &[], &[], Vec::new());
    }

    /// Wants these in addition.
    pub(crate) fn subscribe(&mut self, kind: Type, names: &[&str]) {
        self.want(kind, names);
        let nonce = self.sotw_nonce(kind);
        self.say(kind, &nonce, None, names, &[], Vec::new());
    }

    /// Wants these no more.
    pub(crate) fn unsubscribe(&mut self, kind: Type, names: &[&str]) {
        let wanted = self.wanted.entry(kind).or_default();
        wanted.retain(|name| !names.contains(&name.as_str()));
        let nonce = self.sotw_nonce(kind);
        self.say(kind, &nonce, None, &[], names, Vec::new());
    }

    pub(crate) fn ack(&mut self, got: &Got) {
        self.nonces.insert(got.kind, got.nonce.clone());
        self.versions.insert(got.kind, got.version.clone());
        self.say(got.kind, &got.nonce, None, &[], &[], Vec::new());
    }

    pub(crate) fn nack(&mut self, got: &Got, text: &str) {
        self.nonces.insert(got.kind, got.nonce.clone());
        self.say(got.kind, &got.nonce, Some(text), &[], &[], Vec::new());
    }

    /// Answers with a nonce of the test's choice, and wants these on the way.
    pub(crate) fn answer(&mut self, kind: Type, nonce: &str, names: &[&str]) {
        self.want(kind, names);
        self.say(kind, nonce, None, names, &[], Vec::new());
    }

    /// The next response.
    pub(crate) async fn next(&mut self) -> Got {
        timeout(DEADLINE, self.read())
            .await
            .expect("an answer in time")
            .expect("no error")
            .expect("the stream goes on")
    }

    /// The next response, which is accepted.
    pub(crate) async fn take(&mut self) -> Got {
        let got = self.next().await;
        self.ack(&got);
        got
    }

    /// Nothing is said.
    pub(crate) async fn silent(&mut self) {
        if let Ok(said) = timeout(SILENCE, self.read()).await {
            panic!("expected silence, got {said:?}");
        }
    }

    /// Why the stream ended.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match timeout(DEADLINE, self.read())
                .await
                .expect("an end in time")
            {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a reason"),
                Err(status) => return status,
            }
        }
    }

    /// Sends a request as it is.
    pub(crate) fn raw(&mut self, type_url: &str, names: Vec<String>) {
        match &self.wire {
            Wire::Sotw(sender, _) => {
                let request = pb::DiscoveryRequest {
                    node: self.node.take(),
                    type_url: type_url.to_owned(),
                    resource_names: names,
                    ..pb::DiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
            Wire::Delta(sender, _) => {
                let request = pb::DeltaDiscoveryRequest {
                    node: self.node.take(),
                    type_url: type_url.to_owned(),
                    resource_names_subscribe: names,
                    ..pb::DeltaDiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
        }
    }

    fn want(&mut self, kind: Type, names: &[&str]) {
        let wanted = self.wanted.entry(kind).or_default();
        wanted.extend(names.iter().map(|name| (*name).to_owned()));
    }

    /// A change of what is wanted names the last response in one form, and none in the other.
    fn sotw_nonce(&self, kind: Type) -> String {
        match self.wire {
            Wire::Sotw(..) => self.nonces.get(&kind).cloned().unwrap_or_default(),
            Wire::Delta(..) => String::new(),
        }
    }

    fn say(
        &mut self,
        kind: Type,
        nonce: &str,
        error: Option<&str>,
        subscribe: &[&str],
        unsubscribe: &[&str],
        known: Vec<(String, String)>,
    ) {
        let error = error.map(|text| rpc::Status {
            code: 13,
            message: text.to_owned(),
            details: Vec::new(),
        });
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match &self.wire {
            Wire::Sotw(sender, _) => {
                let wanted = self.wanted.get(&kind).into_iter().flatten();
                let request = pb::DiscoveryRequest {
                    version_info: self.versions.get(&kind).cloned().unwrap_or_default(),
                    node: self.node.take(),
                    resource_names: wanted.cloned().collect(),
                    type_url: kind.url().to_owned(),
                    response_nonce: nonce.to_owned(),
                    error_detail: error,
                    ..pb::DiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
            Wire::Delta(sender, _) => {
                let request = pb::DeltaDiscoveryRequest {
                    node: self.node.take(),
                    type_url: kind.url().to_owned(),
                    resource_names_subscribe: owned(subscribe),
                    resource_names_unsubscribe: owned(unsubscribe),
                    initial_resource_versions: known.into_iter().collect(),
                    response_nonce: nonce.to_owned(),
                    error_detail: error,
                    ..pb::DeltaDiscoveryRequest::default()
                };
                sender.send(request).unwrap();
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Got>, Status> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(match &mut self.wire {
            Wire::Sotw(_, responses) => responses.message().await?.map(|response| Got {
                kind: Type::from_url(&response.type_url).unwrap(),
                nonce: response.nonce,
                version: response.version_info,
                contents: response
                    .resources
                    .iter()
                    .map(|any| text(&any.value))
                    .collect(),
                names: Vec::new(),
                removed: Vec::new(),
            }),
            Wire::Delta(_, responses) => responses.message().await?.map(|response| Got {
                kind: Type::from_url(&response.type_url).unwrap(),
                nonce: response.nonce,
                version: response.system_version_info,
                contents: response
                    .resources
                    .iter()
                    .filter_map(|resource| resource.resource.as_ref())
                    .map(|any| text(&any.value))
                    .collect(),
                names: response
                    .resources
                    .into_iter()
                    .map(|resource| resource.name)
                    .collect(),
                removed: response.removed_resources,
            }),
        })
    }
}

fn outbound<T: Send + 'static>() -> (
    mpsc::UnboundedSender<T>,
    impl Stream<Item = T> + Send + 'static,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let stream = unfold(
        receiver,
        async |mut receiver: mpsc::UnboundedReceiver<T>| {
            let message = receiver.recv().await?;
            Some((message, receiver))
        },
    );
    (sender, stream)
}
