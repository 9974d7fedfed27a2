//! LDS: a listener with the settings of `envoy/envoy.yaml`. It names no cluster and holds no
//! policy, so that neither ever drains it: routes come by RDS and the filter by ECDS.

use envoy_types::pb::envoy::config::accesslog::v3::access_log::ConfigType as LogConfig;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::accesslog::v3::comparison_filter::Op;
use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ComparisonFilter, StatusCodeFilter,
};
use envoy_types::pb::envoy::config::common::mutation_rules::v3::HeaderMutation;
use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::{
    Action, RemoveOnMatch,
};
use envoy_types::pb::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, ExtensionConfigSource, Http2ProtocolOptions, HttpProtocolOptions, RuntimeUInt32,
    SubstitutionFormatString, TypedExtensionConfig, data_source,
};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener as Message};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::set_metadata::v3::Config as SetMetadata;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    PathWithEscapedSlashesAction, RouteSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, RequestIdExtension,
};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyHeaderMutation;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::util::pack_any;
use ombre_policy::duration::Millis;
use ombre_policy::policy::Listener;
use prost::Name;

use super::proto::{
    CONNECTION_BUFFER, address, ads, ads_within, duration, flag, http2_windows, matcher, number,
};
use super::{extension, tls};

const LOG_LINE: &str = "%START_TIME% %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DURATION%ms cluster=%UPSTREAM_CLUSTER% decision=\"%REQ(X-OMBRE-DECISION)%\" id=%REQ(X-REQUEST-ID)%\n";

/// How long a listener waits for the filter; then what stands in for it serves.
const FILTER_PATIENCE: Millis = Millis::from_secs(15);
/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Millis = Millis::from_secs(10);
/// How long a request may go on without a byte in either direction.
const SILENCE: Millis = Millis::from_secs(5 * 60);
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 100;

pub(super) fn message(listener: &Listener) -> Message {
    let manager = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(FilterConfig::TypedConfig(pack_any(manager(&listener.name)))),
    };
    Message {
        name: listener.name.clone(),
        address: Some(address(&listener.address)),
        per_connection_buffer_limit_bytes: number(CONNECTION_BUFFER),
        filter_chains: vec![FilterChain {
            filters: vec![manager],
            transport_socket: listener.tls.as_ref().map(tls::downstream),
            ..FilterChain::default()
        }],
        ..Message::default()
    }
}

fn manager(name: &str) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: name.to_owned(),
        // Clients are outside: x-forwarded-for gets their address, x-envoy-* from them is removed.
        use_remote_address: flag(true),
        // A request keeps the id that it came with, to the letter.
        preserve_external_request_id: true,
        request_id_extension: Some(RequestIdExtension {
            typed_config: Some(pack_any(UuidRequestIdConfig {
                pack_trace_reason: flag(false),
                ..UuidRequestIdConfig::default()
            })),
        }),
        // What is classified is what the upstream gets.
        normalize_path: flag(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::UnescapeAndForward.into(),
        max_request_headers_kb: number(96),
        request_headers_timeout: Some(duration(HEAD_TIMEOUT)),
        stream_idle_timeout: Some(duration(SILENCE)),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: number(STREAMS),
            ..http2_windows()
        }),
        common_http_protocol_options: Some(HttpProtocolOptions {
            max_headers_count: number(400),
            idle_timeout: Some(duration(Millis::from_secs(3600))),
            // Many servers read x_ombre_group as x-ombre-group, which the guard removes.
            headers_with_underscores_action: HeadersWithUnderscoresAction::DropHeader.into(),
            ..HttpProtocolOptions::default()
        }),
        early_header_mutation_extensions: vec![guard()],
        http_filters: vec![filter(), router()],
        access_log: vec![access_log()],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: name.to_owned(),
        })),
        ..HttpConnectionManager::default()
    }
}

/// Before anything is routed, what only ombre may say is taken from the client.
fn guard() -> TypedExtensionConfig {
    let own = StringMatcher {
        ignore_case: true,
        ..matcher(MatchPattern::Prefix("x-ombre-".to_owned()))
    };
    let remove = HeaderMutation {
        action: Some(Action::RemoveOnMatch(RemoveOnMatch {
            key_matcher: Some(own),
        })),
    };
    TypedExtensionConfig {
        name: "ombre_guard".to_owned(),
        typed_config: Some(pack_any(EarlyHeaderMutation {
            mutations: vec![remove],
        })),
    }
}

/// The filter by ECDS. Until it has come, or when it cannot be loaded, one that does nothing
/// stands there: requests go to the default cluster instead of being refused.
fn filter() -> HttpFilter {
    HttpFilter {
        name: extension::NAME.to_owned(),
        config_type: Some(ConfigType::ConfigDiscovery(ExtensionConfigSource {
            config_source: Some(ads_within(FILTER_PATIENCE)),
            default_config: Some(pack_any(SetMetadata::default())),
            type_urls: vec![Wasm::type_url(), SetMetadata::type_url()],
            ..ExtensionConfigSource::default()
        })),
        ..HttpFilter::default()
    }
}

fn router() -> HttpFilter {
    HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(Router::default()))),
        ..HttpFilter::default()
    }
}

/// Of requests that went wrong.
fn access_log() -> AccessLog {
    let from = ComparisonFilter {
        op: Op::Ge.into(),
        value: Some(RuntimeUInt32 {
            default_value: 500,
            runtime_key: "ombre.log_from".to_owned(),
        }),
    };
    let line = DataSource {
        specifier: Some(data_source::Specifier::InlineString(LOG_LINE.to_owned())),
        ..DataSource::default()
    };
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(line)),
        ..SubstitutionFormatString::default()
    };
    AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        filter: Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::StatusCodeFilter(StatusCodeFilter {
                comparison: Some(from),
            })),
        }),
        config_type: Some(LogConfig::TypedConfig(pack_any(StdoutAccessLog {
            access_log_format: Some(AccessLogFormat::LogFormat(format)),
        }))),
    }
}
