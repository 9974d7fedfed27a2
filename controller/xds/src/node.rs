//! Who an Envoy says that it is. Everything in it is a claim; over TLS the id is held against the
//! certificate before it is believed.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::value::Kind;

const LONGEST_NAME: usize = 256;
const MOST_METADATA: usize = 64;

/// An Envoy's node, as far as anything depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    id: String,
    cluster: String,
    metadata: BTreeMap<String, String>,
}

/// Why a node is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The first request of a stream says nothing of it.
    #[error("the first request of a stream has no node; set `node.id` in Envoy's bootstrap")]
    Missing,
    /// It has no id.
    #[error("`node.id` is empty; set it in Envoy's bootstrap")]
    NoId,
    /// It cannot be shown or compared.
    #[error("`node.{0}` is longer than 256 bytes or has control characters; choose another")]
    Unfit(&'static str),
}

impl Node {
    /// Reads what the first request says. Metadata that is not text is left out, as is what is too
    /// long or too much of it: nothing can be selected by it.
    ///
    /// # Errors
    /// When there is no fit id.
    pub fn read(node: Option<&core::Node>) -> Result<Self, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        if node.id.is_empty() {
            return Err(NodeError::NoId);
        }
        let fields = node.metadata.iter().flat_map(|metadata| &metadata.fields);
        let texts = fields.filter_map(|(name, value)| match value.kind.as_ref()? {
            Kind::StringValue(text) => {
                Some((fit("metadata", name).ok()?, fit("metadata", text).ok()?))
            }
            _ => None,
        });
        let mut metadata: BTreeMap<String, String> = texts.collect();
        while metadata.len() > MOST_METADATA {
            metadata.pop_last();
        }
        Ok(Self {
            id: fit("id", &node.id)?,
            cluster: fit("cluster", &node.cluster)?,
            metadata,
        })
    }

    /// Its id: `node.id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The group of Envoys that it belongs to: `node.cluster`; may be empty.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The texts among `node.metadata`.
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

fn fit(field: &'static str, text: &str) -> Result<String, NodeError> {
    if text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(NodeError::Unfit(field));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{Struct, Value};

    use super::*;

    fn named(id: &str) -> core::Node {
        core::Node {
            id: id.to_owned(),
            cluster: "edge".to_owned(),
            ..core::Node::default()
        }
    }

    #[test]
    fn a_node_needs_an_id_that_can_be_shown() {
        let long = "x".repeat(257);
        for (name, node, expected) in [
            ("none", None, NodeError::Missing),
            ("empty", Some(named("")), NodeError::NoId),
            ("long", Some(named(&long)), NodeError::Unfit("id")),
            ("line break", Some(named("a\nb")), NodeError::Unfit("id")),
        ] {
            assert_eq!(Node::read(node.as_ref()), Err(expected), "{name}");
        }
        let node = Node::read(Some(&named("e1"))).unwrap();
        assert_eq!((node.id(), node.cluster()), ("e1", "edge"));
    }

    #[test]
    fn metadata_is_what_is_text_and_not_too_much_of_it() {
        let text = |text: &str| Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        };
        let number = Value {
            kind: Some(Kind::NumberValue(1.0)),
        };
        let mut node = named("e1");
        let mut fields = std::collections::HashMap::new();
        fields.insert("zone".to_owned(), text("a"));
        fields.insert("number".to_owned(), number);
        fields.insert("long".to_owned(), text(&"x".repeat(257)));
        node.metadata = Some(Struct { fields });
        let read = Node::read(Some(&node)).unwrap();
        let expected = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        assert_eq!(read.metadata(), &expected);
        let many = (0..1000).map(|number| (number.to_string(), text("x")));
        node.metadata = Some(Struct {
            fields: many.collect(),
        });
        let read = Node::read(Some(&node)).unwrap();
        assert_eq!(read.metadata().len(), MOST_METADATA);
    }
}
