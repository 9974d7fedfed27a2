//! Words that mean the same in a policy file, in the validated policy and in the plan.

use serde::{Deserialize, Serialize};

/// Where a request may say which version it wants (§2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// A vendor media type in `Accept`.
    Accept,
    /// The route's `{version}` segment.
    Path,
    /// `X-API-Version`.
    Header,
    /// The query parameter `version`.
    Query,
}

/// What happens to a request that wants a version nobody configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// The service's default version serves it.
    #[default]
    Default,
    /// It is refused: 406 for `Accept`, 404 for the path, 400 for header and query.
    Reject,
}

/// Where a request may carry its color (§3.1). `Baggage` is how a service hands it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorSource {
    /// `x-envoy-traffic-color`.
    Header,
    /// The member `traffic-color` of W3C `baggage`.
    Baggage,
    /// The cookie `traffic_color`.
    Cookie,
    /// The query parameter `color`; for debugging.
    Query,
}

/// A fact about a version that is sent on with its requests (§2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// `x-api-version`.
    Version,
    /// `x-env-stage`.
    Stage,
    /// `x-build-id`.
    BuildId,
}

/// Where the unit of bucketing comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitSource {
    /// A request header; the name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The cookie `ombre_uid`, which is set when it is not there.
    Mint,
}

/// A set of request methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Methods(u16);

impl Detector {
    /// The order in which they are asked unless the policy says otherwise.
    pub const ORDER: [Self; 4] = [Self::Accept, Self::Path, Self::Header, Self::Query];

    /// The word in policy files and decisions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Path => "path",
            Self::Header => "header",
            Self::Query => "query",
        }
    }
}

impl ColorSource {
    /// The order in which they are asked unless the policy says otherwise. Baggage comes before
    /// the cookie: it holds what an earlier hop resolved, perhaps against the cookie.
    pub const ORDER: [Self; 4] = [Self::Header, Self::Baggage, Self::Cookie, Self::Query];

    /// The word in policy files and explanations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Baggage => "baggage",
            Self::Cookie => "cookie",
            Self::Query => "query",
        }
    }
}

impl Metadata {
    /// The request header that carries it.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Version => "x-api-version",
            Self::Stage => "x-env-stage",
            Self::BuildId => "x-build-id",
        }
    }
}

impl Methods {
    /// Every method, also those without a name here.
    pub const ANY: Self = Self(u16::MAX);

    const NAMES: [&'static str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];

    /// The set with one method, or `None` when the name is not one of HTTP's.
    pub fn named(name: &str) -> Option<Self> {
        let bit = Self::NAMES.iter().position(|known| *known == name)?;
        Some(Self(1 << bit))
    }

    /// The names that [`Methods::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter()
    }

    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets share a method.
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a request with this method is meant.
    pub fn contain(self, method: &[u8]) -> bool {
        self == Self::ANY
            || Self::NAMES
                .iter()
                .position(|known| known.as_bytes() == method)
                .is_some_and(|bit| self.0 & (1 << bit) != 0)
    }
}

/// Whether a request may change something: every method but those that RFC 9110, section 9.2.1,
/// calls safe.
pub fn is_unsafe_method(method: &[u8]) -> bool {
    !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}
