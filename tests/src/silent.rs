//! A client of xDS that asks for all that an Envoy asks for, and takes what it gets without a word,
//! until it is told to answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Ads;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use futures_util::stream::unfold;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// A thousand of them may come at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it asks for: the end of a type's name, and names where everything cannot be asked for.
const WANTED: [(&str, &[&str]); 5] = [
    ("cluster.v3.Cluster", &[]),
    ("endpoint.v3.ClusterLoadAssignment", &["demo_v1", "demo_v2"]),
    ("core.v3.TypedExtensionConfig", &["ombre"]),
    ("listener.v3.Listener", &[]),
    ("route.v3.RouteConfiguration", &["traffic"]),
];

/// A connected client. Dropping it closes the connection.
#[derive(Debug)]
pub struct Silent {
    answers: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Silent {
    /// Connects under this name, asks for everything, and waits for the first response.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(address: SocketAddr, name: &str) -> Result<Self> {
        let (mut requests, mut responses) = timeout(PATIENCE, open(address, name))
            .await
            .context("no stream in time")??;
        for (url, names) in WANTED {
            requests.ask(url, names, None).await?;
        }
        let first = timeout(PATIENCE, responses.message()).await;
        let first = first.context("no response in time")??;
        let first = first.context("the stream ended")?;
        let (answers, mut told) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut open = vec![first];
            loop {
                if *told.borrow_and_update() {
                    for response in open.drain(..) {
                        requests.answer(&response).await?;
                    }
                }
                tokio::select! {
                    message = responses.message() => match message? {
                        Some(response) => open.push(response),
                        None => return Ok(()),
                    },
                    _ = told.changed() => {}
                }
            }
        });
        Ok(Self { answers, task })
    }

    /// From now on it answers like an Envoy that likes everything, beginning with what it has got.
    pub fn speak(&self) {
        self.answers.send_replace(true);
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sending half, which says once who it is.
struct Requests {
    sender: mpsc::Sender<DiscoveryRequest>,
    node: Option<Node>,
}

async fn open(address: SocketAddr, name: &str) -> Result<(Requests, Streaming<DiscoveryResponse>)> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let (sender, receiver) = mpsc::channel(8);
    let stream = unfold(
        receiver,
        async |mut receiver: mpsc::Receiver<DiscoveryRequest>| {
            let request = receiver.recv().await?;
            Some((request, receiver))
        },
    );
    let responses = Ads::new(channel)
        .stream_aggregated_resources(stream)
        .await?;
    let node = Node {
        id: name.to_owned(),
        cluster: "edge".to_owned(),
        ..Node::default()
    };
    let requests = Requests {
        sender,
        node: Some(node),
    };
    Ok((requests, responses.into_inner()))
}

impl Requests {
    async fn answer(&mut self, response: &DiscoveryResponse) -> Result<()> {
        let mut wanted = WANTED.into_iter();
        let wanted = wanted.find(|(url, _)| response.type_url.ends_with(url));
        let (url, names) = wanted.context("a response of another type")?;
        self.ask(url, names, Some(response)).await
    }

    async fn ask(
        &mut self,
        url: &str,
        names: &[&str],
        response: Option<&DiscoveryResponse>,
    ) -> Result<()> {
        let (version_info, response_nonce) = response
            .map(|response| (response.version_info.clone(), response.nonce.clone()))
            .unwrap_or_default();
        let request = DiscoveryRequest {
            node: self.node.take(),
            type_url: format!("type.googleapis.com/envoy.config.{url}"),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            version_info,
            response_nonce,
            ..DiscoveryRequest::default()
        };
        let sent = self.sender.send(request).await;
        sent.context("the stream ended")
    }
}
