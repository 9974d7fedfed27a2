//! What an Envoy is to have: the resources of each type, each with a version that is a hash of its
//! content, so that two controllers, or one before and after a restart, name the same thing alike.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ombre_policy::document::Revision;
use xxhash_rust::xxh64::xxh64;

/// A type of resource, in the order in which Envoy is to hear of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// CDS.
    Cluster,
    /// EDS. Named like the cluster whose endpoints these are.
    Endpoint,
    /// ECDS.
    Extension,
    /// LDS.
    Listener,
    /// RDS.
    Route,
}

/// A hash of a resource's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

/// One resource, as it goes over the wire.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    name: String,
    version: Version,
    body: Vec<u8>,
}

/// The resources of one type, by name.
pub type Resources = BTreeMap<String, Arc<Resource>>;

/// Everything that one group of Envoys is to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    clusters: Resources,
    endpoints: Resources,
    extensions: Resources,
    listeners: Resources,
    routes: Resources,
    revisions: Revisions,
}

/// Which policy and decisions a snapshot was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// Of the policy.
    pub policy: Revision,
    /// Of the decisions.
    pub decisions: Revision,
}

impl Type {
    /// All types, in order.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Extension,
        Self::Listener,
        Self::Route,
    ];

    /// As requests and resources name it.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type that a request names, if it is one of these.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// The usual short name, as logs, metrics and the API have it.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Extension => "ecds",
            Self::Listener => "lds",
            Self::Route => "rds",
        }
    }

    /// Whether a state-of-the-world response says all there is, so that what is absent is deleted;
    /// only these types can be asked for as a whole.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

impl Version {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh64(bytes, 0))
    }

    /// Of a set of resources: changes when one is added, removed or changed.
    pub fn of_all<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut text = Vec::new();
        for resource in resources {
            text.extend_from_slice(resource.name.as_bytes());
            text.push(0);
            text.extend_from_slice(&resource.version.0.to_le_bytes());
        }
        Self::of(&text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    /// What a client says that it has. Any hexadecimal number is taken; one that was never given
    /// out equals nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Resource {
    /// A resource of an encoded message.
    pub fn new(name: impl Into<String>, body: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            version: Version::of(&body),
            body,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of its body.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The encoded message: the value of the `Any` that carries it.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Snapshot {
    /// An empty one.
    pub fn new(revisions: Revisions) -> Self {
        Self {
            revisions,
            ..Self::default()
        }
    }

    /// Adds a resource; a second one of the same type and name takes the place of the first.
    pub fn insert(&mut self, kind: Type, resource: Resource) {
        let resources = match kind {
            Type::Cluster => &mut self.clusters,
            Type::Endpoint => &mut self.endpoints,
            Type::Extension => &mut self.extensions,
            Type::Listener => &mut self.listeners,
            Type::Route => &mut self.routes,
        };
        resources.insert(resource.name.clone(), Arc::new(resource));
    }

    /// The resources of a type.
    pub const fn of(&self, kind: Type) -> &Resources {
        match kind {
            Type::Cluster => &self.clusters,
            Type::Endpoint => &self.endpoints,
            Type::Extension => &self.extensions,
            Type::Listener => &self.listeners,
            Type::Route => &self.routes,
        }
    }

    /// What it was made of.
    pub const fn revisions(&self) -> Revisions {
        self.revisions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_by_the_url_that_requests_carry() {
        for kind in Type::ALL {
            assert_eq!(Type::from_url(kind.url()), Some(kind));
        }
        assert_eq!(Type::from_url("type.googleapis.com/none"), None);
    }

    #[test]
    fn a_version_is_its_content_and_survives_the_wire() {
        let one = Resource::new("a", b"one".to_vec());
        let same = Resource::new("b", b"one".to_vec());
        let other = Resource::new("a", b"two".to_vec());
        assert_eq!(one.version(), same.version());
        assert_ne!(one.version(), other.version());
        assert_eq!(one.version().to_string().parse(), Ok(one.version()));
        assert_ne!(Version::of_all([&one]), Version::of_all([&same]));
        assert_ne!(Version::of_all([&one]), Version::of_all([&one, &same]));
    }
}
