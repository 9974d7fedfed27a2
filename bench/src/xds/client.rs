//! A client that takes everything over delta xDS as an Envoy does, on a connection of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Ads;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use futures_util::stream::unfold;
use ombre_tests::envoy::{CANARY, STABLE};
use ombre_xds::snapshot::Type;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::Streaming;
use tonic::transport::Endpoint;

/// The listener that it asks for the routes of.
pub(super) const LISTENER: &str = "traffic";
const LARGEST_MESSAGE: usize = 64 << 20;

/// A client was told.
pub(super) struct Told {
    pub(super) kind: Type,
    /// Of this type, for the first time.
    pub(super) first: bool,
    pub(super) when: Instant,
}

/// Takes everything, accepts it, and tells of it.
pub(super) async fn run(
    server: SocketAddr,
    number: usize,
    tell: UnboundedSender<Told>,
) -> Result<()> {
    let endpoint = Endpoint::from_shared(format!("http://{server}"))?;
    let channel = endpoint.connect().await?;
    let (sender, receiver) = unbounded_channel();
    let requests = unfold(
        receiver,
        async |mut receiver: UnboundedReceiver<DeltaDiscoveryRequest>| {
            Some((receiver.recv().await?, receiver))
        },
    );
    let mut node = Some(Node {
        id: format!("client-{number}"),
        ..Node::default()
    });
    for kind in Type::ALL {
        let names: &[&str] = match kind {
            Type::Cluster | Type::Listener => &["*"],
            Type::Endpoint => &[STABLE, CANARY],
            Type::Extension => &["ombre"],
            Type::Route => &[LISTENER],
        };
        sender.send(DeltaDiscoveryRequest {
            node: node.take(),
            type_url: kind.url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..DeltaDiscoveryRequest::default()
        })?;
    }
    let mut ads = Ads::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
    let responses = ads.delta_aggregated_resources(requests).await?;
    let mut responses: Streaming<DeltaDiscoveryResponse> = responses.into_inner();
    let mut has = BTreeSet::new();
    while let Some(response) = responses.message().await? {
        let when = Instant::now();
        let kind = Type::from_url(&response.type_url).context("an unknown type")?;
        sender.send(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        })?;
        let first = has.insert(kind);
        if tell.send(Told { kind, first, when }).is_err() {
            break;
        }
    }
    Ok(())
}
