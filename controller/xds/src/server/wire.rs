//! The two forms of the protocol on the wire, and what they say in common.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc;

use crate::message::{Asks, Flavor, Request, Response};
use crate::snapshot::{Resource, Type, Version};

/// A NACK's text is kept up to here, in bytes.
const LONGEST_TEXT: usize = 4096;

/// One form of the protocol.
pub(super) trait Wire: Send + 'static {
    /// Which one.
    const FLAVOR: Flavor;
    /// A request on the wire.
    type Asked: Send + 'static;
    /// A response on the wire.
    type Told: Send + 'static;

    /// Who asks; only the first request of a stream has to say so.
    fn node(asked: &Self::Asked) -> Option<&core::Node>;
    /// About which type.
    fn type_url(asked: &Self::Asked) -> &str;
    /// Under which version the client has everything of this type from an earlier stream; only in
    /// requests that cannot say what that is.
    fn resumed(asked: &Self::Asked) -> Option<Version>;
    /// What it says.
    fn request(kind: Type, asked: Self::Asked) -> Request;
    /// How it is said.
    fn told(response: Response) -> Self::Told;
}

/// State of the world.
pub(super) enum Sotw {}

/// Delta.
pub(super) enum Delta {}

impl Wire for Sotw {
    const FLAVOR: Flavor = Flavor::Sotw;
    type Asked = pb::DiscoveryRequest;
    type Told = pb::DiscoveryResponse;

    fn node(asked: &Self::Asked) -> Option<&core::Node> {
        asked.node.as_ref()
    }

    fn type_url(asked: &Self::Asked) -> &str {
        &asked.type_url
    }

    fn resumed(asked: &Self::Asked) -> Option<Version> {
        asked.version_info.parse().ok()
    }

    fn request(kind: Type, asked: Self::Asked) -> Request {
        Request {
            kind,
            nonce: asked.response_nonce,
            error: asked.error_detail.map(text),
            asks: Asks::Names {
                names: asked.resource_names,
                resumes: !asked.version_info.is_empty(),
            },
        }
    }

    fn told(response: Response) -> Self::Told {
        let kind = response.kind;
        let resources = response.resources.iter();
        pb::DiscoveryResponse {
            version_info: response.version.to_string(),
            resources: resources.map(|resource| any(kind, resource)).collect(),
            type_url: kind.url().to_owned(),
            nonce: response.nonce,
            ..pb::DiscoveryResponse::default()
        }
    }
}

impl Wire for Delta {
    const FLAVOR: Flavor = Flavor::Delta;
    type Asked = pb::DeltaDiscoveryRequest;
    type Told = pb::DeltaDiscoveryResponse;

    fn node(asked: &Self::Asked) -> Option<&core::Node> {
        asked.node.as_ref()
    }

    fn type_url(asked: &Self::Asked) -> &str {
        &asked.type_url
    }

    fn resumed(_: &Self::Asked) -> Option<Version> {
        None
    }

    fn request(kind: Type, asked: Self::Asked) -> Request {
        Request {
            kind,
            nonce: asked.response_nonce,
            error: asked.error_detail.map(text),
            asks: Asks::Changes {
                subscribe: asked.resource_names_subscribe,
                unsubscribe: asked.resource_names_unsubscribe,
                known: asked.initial_resource_versions.into_iter().collect(),
            },
        }
    }

    fn told(response: Response) -> Self::Told {
        let kind = response.kind;
        let resource = |resource: &std::sync::Arc<Resource>| pb::Resource {
            name: resource.name().to_owned(),
            version: resource.version().to_string(),
            resource: Some(any(kind, resource)),
            ..pb::Resource::default()
        };
        pb::DeltaDiscoveryResponse {
            system_version_info: response.version.to_string(),
            resources: response.resources.iter().map(resource).collect(),
            type_url: kind.url().to_owned(),
            removed_resources: response.removed,
            nonce: response.nonce,
            ..pb::DeltaDiscoveryResponse::default()
        }
    }
}

fn any(kind: Type, resource: &Resource) -> Any {
    Any {
        type_url: kind.url().to_owned(),
        value: resource.body().to_vec(),
    }
}

/// A NACK's text; never empty, since an empty one says nothing to whoever reads it.
fn text(status: rpc::Status) -> String {
    let mut text = status.message;
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    if text.is_empty() {
        return format!("refused without a reason (code {})", status.code);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nack(message: &str) -> Request {
        let asked = pb::DiscoveryRequest {
            error_detail: Some(rpc::Status {
                code: 3,
                message: message.to_owned(),
                details: Vec::new(),
            }),
            ..pb::DiscoveryRequest::default()
        };
        Sotw::request(Type::Cluster, asked)
    }

    #[test]
    fn a_long_nack_is_cut_between_characters_and_an_empty_one_says_its_code() {
        let error = nack(&"ä".repeat(3000)).error.unwrap();
        assert_eq!(error.len(), LONGEST_TEXT);
        let error = nack(&format!("a{}", "ä".repeat(3000))).error.unwrap();
        assert_eq!(error.len(), LONGEST_TEXT - 1);
        assert_eq!(nack("").error.unwrap(), "refused without a reason (code 3)");
    }
}
