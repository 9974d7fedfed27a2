//! The small messages that every resource is made of.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, HeaderValue,
    HeaderValueOption, Http2ProtocolOptions, SocketAddress,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use ombre_policy::duration::Millis;

/// A request header by which the filter says where a request goes.
pub(super) const CLUSTER_HEADER: &str = "x-ombre-cluster";

/// So many bytes of a connection wait in Envoy at most. This and what is said of HTTP/2 are Envoy's
/// recommendations for an edge proxy: its own defaults would let one client take 256 MiB.
pub(super) const CONNECTION_BUFFER: u32 = 32 << 10;
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How many bytes may be on their way to Envoy in one stream and in one connection.
pub(super) fn http2_windows() -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        initial_stream_window_size: number(STREAM_WINDOW),
        initial_connection_window_size: number(CONNECTION_WINDOW),
        ..Http2ProtocolOptions::default()
    }
}

pub(super) fn address(address: &SocketAddr) -> Address {
    named_address(&address.ip().to_string(), address.port())
}

/// Of a host with a name, which only clusters by DNS may have.
pub(super) fn named_address(host: &str, port: u16) -> Address {
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..SocketAddress::default()
        })),
    }
}

/// Over the stream on which everything else comes. Envoy waits for it as long as it takes: a listener
/// without routes, or a cluster without hosts, would be worse than none.
pub(super) fn ads() -> ConfigSource {
    ads_within(Millis::ZERO)
}

/// The same, for as long as Envoy is to wait before it goes on without; zero is for ever.
pub(super) fn ads_within(patience: Millis) -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(duration(patience)),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}

/// A file on Envoy's machine.
pub(super) fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::Filename(path.to_owned())),
        ..DataSource::default()
    }
}

pub(super) fn duration(span: Millis) -> Duration {
    let millis = span.get();
    Duration {
        // Validation keeps spans within days.
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000).unwrap_or_default() * 1_000_000,
    }
}

pub(super) const fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) const fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn exactly(text: &str) -> StringMatcher {
    matcher(MatchPattern::Exact(text.to_owned()))
}

pub(super) fn matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    }
}

pub(super) fn header(key: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}
