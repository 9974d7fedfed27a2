//! Every option that a policy may give is found in the message that Envoy gets, decoded from the
//! bytes that it gets.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::core::v3::{self as core,
    Address, DataSource, TransportSocket, TypedExtensionConfig,
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, UpstreamTlsContext,
};
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config::Vm;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, BytesValue, Duration, Struct, Value};
use ombre_policy::document::Revision;
use ombre_policy::load::load_text;
use ombre_policy::policy::Policy;
use prost::{Message, Name};

use super::{Extension, NodeGroup, of};
use crate::node::Node;
use crate::snapshot::{Revisions, Snapshot, Type};

const POLICY: &str = r#"
apiVersion: ombre/v1
services:
  - name: checkout
    routes: [{ name: checkout, path: "/checkout/{*rest}" }]
    versions: [{ name: v1, cluster: plain }, { name: v2, cluster: full }]
    default: v1
    unit: [mint]
    experiment: { experiment: look, groups: [{ name: dark, weight: 40 }, { name: plain, weight: 60 }] }
clusters:
  - { name: plain, endpoints: [10.0.0.1:8080] }
  - name: full
    endpoints: [{ address: "10.0.0.2:1", weight: 3, health: draining }, { address: "[::1]:2", health: unhealthy }]
    connect_timeout: 1250ms
    http2: true
    tls: { sni: a.b, ca: ca.pem, cert: c.pem, key: k.pem, san: [a.b, "spiffe://x/y", 10.0.0.2] }
    circuit_breakers: { connections: 1, pending: 2, requests: 3 }
    outlier_detection: { consecutive_5xx: 4, consecutive_local_origin_failure: 6, interval: 7s, base_ejection: 8s, max_ejection_percent: 0 }
  - { name: dns, dns: "a.b:9", tls: { ca: ca.pem }, outlier_detection: off }
listeners:
  - { name: open, address: 127.0.0.1:8080, default_cluster: plain, timeout: 2s, nodes: { cluster: edge } }
  - { name: tls, address: "[::]:8443", default_cluster: dns, timeout: 0s, tls: { cert: e.pem, key: e.key }, nodes: { metadata: { zone: a } } }
  - { name: all, address: 127.0.0.1:8081, default_cluster: plain }
"#;

fn policy() -> Policy {
    match load_text(POLICY) {
        Ok(loaded) => loaded.policy,
        Err(problems) => panic!("{problems}"),
    }
}

fn node(cluster: &str, zone: &str) -> Node {
    let zone = Value {
        kind: Some(Kind::StringValue(zone.to_owned())),
    };
    let node = core::Node {
        id: "e1".to_owned(),
        cluster: cluster.to_owned(),
        metadata: Some(Struct {
            fields: [("zone".to_owned(), zone)].into(),
        }),
        ..core::Node::default()
    };
    Node::read(Some(&node)).expect("a node")
}

fn snapshot() -> Snapshot {
    let policy = policy();
    let extension = Extension {
        wasm: "/opt/ombre.wasm".to_owned(),
        configuration: b"documents".to_vec(),
        revisions: Revisions {
            policy: Revision::new(7),
            decisions: Revision::new(8),
        },
    };
    of(
        &policy,
        &extension,
        &NodeGroup::of(&policy, &node("edge", "a")),
    )
}

/// The message of a resource, decoded, whose type must be the one that goes over the wire.
fn resource<M: Message + Name + Default>(kind: Type, name: &str) -> M {
    assert_eq!(kind.url(), M::type_url());
    let snapshot = snapshot();
    let resource = snapshot.of(kind).get(name);
    M::decode(resource.unwrap().body()).unwrap()
}

fn unpack<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value.as_slice()).unwrap()
}

fn span(seconds: i64, nanos: i32) -> Option<Duration> {
    Some(Duration { seconds, nanos })
}

fn socket_address(address: &Option<Address>) -> (String, u32) {
    match address.clone().unwrap().address {
        Some(AddressKind::SocketAddress(socket)) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => (socket.address, port),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn path(file: &Option<DataSource>) -> String {
    match file.clone().unwrap().specifier {
        Some(Specifier::Filename(path)) => path,
        other => panic!("{other:?}"),
    }
}

fn tls<M: Message + Name + Default>(socket: &Option<TransportSocket>) -> M {
    match socket.clone().unwrap().config_type {
        Some(SocketConfig::TypedConfig(any)) => unpack(&any),
        None => panic!("no configuration"),
    }
}

fn manager(listener: &str) -> HttpConnectionManager {
    let listener: Listener = resource(Type::Listener, listener);
    match &listener.filter_chains[..] {
        [chain] => match &chain.filters[..] {
            [filter] => match filter.config_type.as_ref().unwrap() {
                FilterConfig::TypedConfig(any) => unpack(any),
                other => panic!("{other:?}"),
            },
            _ => panic!("not one filter"),
        },
        _ => panic!("not one chain"),
    }
}

#[test]
fn there_is_one_of_each() {
    let snapshot = snapshot();
    for (kind, expected) in [
        (Type::Cluster, &["dns", "full", "plain"][..]),
        (Type::Endpoint, &["full", "plain"]),
        (Type::Extension, &["ombre"]),
        (Type::Listener, &["all", "open", "tls"]),
        (Type::Route, &["all", "open", "tls"]),
    ] {
        let names: Vec<_> = snapshot.of(kind).keys().collect();
        assert_eq!(names, expected, "{}", kind.short());
    }
    assert_eq!(snapshot.revisions().policy, Revision::new(7));
}

#[test]
fn the_same_policy_makes_the_same_bytes() {
    assert_eq!(snapshot(), snapshot());
}

#[test]
fn nodes_get_their_listeners() {
    let policy = policy();
    for (name, node, expected) in [
        ("both", node("edge", "a"), &["open", "tls", "all"][..]),
        ("cluster", node("edge", "b"), &["open", "all"]),
        ("metadata", node("core", "a"), &["tls", "all"]),
        ("nothing", node("core", "b"), &["all"]),
    ] {
        assert_eq!(
            NodeGroup::of(&policy, &node).listeners(),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_cluster_has_what_the_policy_says() {
    let cluster: Cluster = resource(Type::Cluster, "full");
    assert_eq!(cluster.name, "full");
    assert_eq!(cluster.connect_timeout, span(1, 250_000_000));
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    assert_eq!(cluster.cluster_discovery_type, Some(eds));
    let eds = cluster.eds_cluster_config.unwrap().eds_config.unwrap();
    assert_eq!(eds.initial_fetch_timeout, span(0, 0), "not without hosts");
    assert_eq!(cluster.load_assignment, None);
    let limits = &cluster.circuit_breakers.unwrap().thresholds[0];
    let value = |number: Option<envoy_types::pb::google::protobuf::UInt32Value>| {
        number.map(|number| number.value)
    };
    assert_eq!(value(limits.max_connections), Some(1));
    assert_eq!(value(limits.max_pending_requests), Some(2));
    assert_eq!(value(limits.max_requests), Some(3));
    let outlier = cluster.outlier_detection.unwrap();
    assert!(outlier.split_external_local_origin_errors);
    assert_eq!(value(outlier.consecutive_5xx), Some(4));
    assert_eq!(value(outlier.consecutive_local_origin_failure), Some(6));
    assert_eq!(outlier.interval, span(7, 0));
    assert_eq!(outlier.base_ejection_time, span(8, 0));
    assert_eq!(value(outlier.max_ejection_percent), Some(0));
    let options = cluster.typed_extension_protocol_options;
    assert!(options.contains_key("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"));
    assert_eq!(
        value(cluster.per_connection_buffer_limit_bytes),
        Some(32_768)
    );
    let plain: Cluster = resource(Type::Cluster, "plain");
    assert!(plain.typed_extension_protocol_options.is_empty());
    assert_eq!(plain.transport_socket, None);
}

#[test]
fn upstreams_must_prove_who_they_are() {
    let cluster: Cluster = resource(Type::Cluster, "full");
    let context: UpstreamTlsContext = tls(&cluster.transport_socket);
    assert_eq!(context.sni, "a.b");
    let common = context.common_tls_context.unwrap();
    assert_eq!(common.alpn_protocols, ["h2"]);
    assert_eq!(path(&common.tls_certificates[0].certificate_chain), "c.pem");
    assert_eq!(path(&common.tls_certificates[0].private_key), "k.pem");
    let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type
    else {
        panic!("certificates are not checked");
    };
    assert_eq!(path(&validation.trusted_ca), "ca.pem");
    let names = validation.match_typed_subject_alt_names.iter().map(|name| {
        let pattern = name.matcher.clone().unwrap().match_pattern;
        (name.san_type(), pattern.unwrap())
    });
    let expected = [
        (SanType::Dns, "a.b"),
        (SanType::Uri, "spiffe://x/y"),
        (SanType::IpAddress, "10.0.0.2"),
    ];
    let expected = expected.map(|(kind, name)| (kind, MatchPattern::Exact(name.to_owned())));
    assert_eq!(names.collect::<Vec<_>>(), expected);
}

#[test]
fn a_cluster_by_dns_has_its_name_in_it() {
    let cluster: Cluster = resource(Type::Cluster, "dns");
    let dns = ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into());
    assert_eq!(cluster.cluster_discovery_type, Some(dns));
    assert_eq!(cluster.outlier_detection, None);
    let context: UpstreamTlsContext = tls(&cluster.transport_socket);
    assert_eq!(context.sni, "a.b");
    let hosts = hosts(&cluster.load_assignment.unwrap());
    assert_eq!(hosts, [("a.b".to_owned(), 9, 0, None)]);
}

type HostSeen = (String, u32, i32, Option<u32>);

fn hosts(assignment: &ClusterLoadAssignment) -> Vec<HostSeen> {
    let hosts = assignment.endpoints.iter().flat_map(|e| &e.lb_endpoints);
    let hosts = hosts.map(|host| {
        let Some(HostIdentifier::Endpoint(endpoint)) = &host.host_identifier else {
            panic!("no endpoint");
        };
        let (address, port) = socket_address(&endpoint.address);
        let weight = host.load_balancing_weight.map(|weight| weight.value);
        (address, port, host.health_status, weight)
    });
    hosts.collect()
}

#[test]
fn endpoints_have_weight_and_health() {
    let assignment: ClusterLoadAssignment = resource(Type::Endpoint, "full");
    assert_eq!(assignment.cluster_name, "full");
    let (draining, unhealthy) = (3, 2);
    let expected = [
        ("10.0.0.2".to_owned(), 1, draining, Some(3)),
        ("::1".to_owned(), 2, unhealthy, Some(1)),
    ];
    assert_eq!(hosts(&assignment), expected);
}

#[test]
fn a_listener_names_no_cluster_and_gets_the_rest_by_ads() {
    let snapshot = snapshot();
    for listener in snapshot.of(Type::Listener).values() {
        let bytes = String::from_utf8_lossy(listener.body()).into_owned();
        for word in ["plain", "documents", "ombre.wasm"] {
            assert!(!bytes.contains(word), "{}: {word}", listener.name());
        }
    }
    let manager = manager("open");
    assert_eq!(manager.stat_prefix, "open");
    let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else {
        panic!("routes do not come by RDS");
    };
    assert_eq!(rds.route_config_name, "open");
    let source = rds.config_source.unwrap();
    assert_eq!(source.initial_fetch_timeout, span(0, 0), "nor routes");
    let [filter, router] = &manager.http_filters[..] else {
        panic!("not two filters");
    };
    assert_eq!(filter.name, "ombre");
    assert_eq!(router.name, "envoy.filters.http.router");
    let Some(ConfigType::ConfigDiscovery(source)) = &filter.config_type else {
        panic!("the filter does not come by ECDS");
    };
    assert!(!source.apply_default_config_without_warming);
    let from = source.config_source.as_ref().unwrap();
    assert_eq!(from.initial_fetch_timeout, span(15, 0), "the default waits");
    let default = source.default_config.as_ref().unwrap();
    assert!(source.type_urls.contains(&default.type_url));
    assert!(source.type_urls.contains(&Wasm::type_url()));
}

#[test]
fn one_client_takes_no_more_than_its_share() {
    let listener: Listener = resource(Type::Listener, "open");
    let manager = manager("open");
    let http2 = manager.http2_protocol_options.unwrap();
    let idle = manager.common_http_protocol_options.unwrap().idle_timeout;
    for (name, limit, expected) in [
        ("buffer", listener.per_connection_buffer_limit_bytes, 32_768),
        ("streams", http2.max_concurrent_streams, 100),
        ("stream window", http2.initial_stream_window_size, 65_536),
        (
            "connection window",
            http2.initial_connection_window_size,
            1_048_576,
        ),
    ] {
        assert_eq!(limit.map(|limit| limit.value), Some(expected), "{name}");
    }
    assert_eq!(manager.request_headers_timeout, span(10, 0));
    assert_eq!(manager.stream_idle_timeout, span(300, 0));
    assert_eq!(idle, span(3600, 0));
}

#[test]
fn a_listener_is_where_the_policy_says() {
    let open: Listener = resource(Type::Listener, "open");
    assert_eq!(
        socket_address(&open.address),
        ("127.0.0.1".to_owned(), 8080)
    );
    assert_eq!(open.filter_chains[0].transport_socket, None);
    let secure: Listener = resource(Type::Listener, "tls");
    assert_eq!(socket_address(&secure.address), ("::".to_owned(), 8443));
    let context: DownstreamTlsContext = tls(&secure.filter_chains[0].transport_socket);
    let common = context.common_tls_context.unwrap();
    assert_eq!(path(&common.tls_certificates[0].certificate_chain), "e.pem");
    assert_eq!(path(&common.tls_certificates[0].private_key), "e.key");
    assert_eq!(common.alpn_protocols, ["h2", "http/1.1"]);
}

#[test]
fn routes_follow_the_filter_and_fall_back_to_the_default() {
    for (listener, timeout, default) in [
        ("open", span(2, 0), "plain"),
        ("tls", span(0, 0), "dns"),
        ("all", span(15, 0), "plain"),
    ] {
        let routes: RouteConfiguration = resource(Type::Route, listener);
        assert_eq!(routes.name, listener);
        let host = &routes.virtual_hosts[0];
        assert_eq!(host.domains, ["*"]);
        let to = host.routes.iter().map(|route| match &route.action {
            Some(Action::Route(action)) => {
                assert_eq!(action.timeout, timeout, "{listener}");
                let headers = &route.r#match.as_ref().unwrap().headers;
                let names: Vec<_> = headers.iter().map(|header| header.name.clone()).collect();
                (names, action.cluster_specifier.clone().unwrap())
            }
            other => panic!("{other:?}"),
        });
        let header = "x-ombre-cluster".to_owned();
        let expected = [
            (
                vec![header.clone()],
                ClusterSpecifier::ClusterHeader(header),
            ),
            (vec![], ClusterSpecifier::Cluster(default.to_owned())),
        ];
        assert_eq!(to.collect::<Vec<_>>(), expected, "{listener}");
        let added = routes.response_headers_to_add.iter();
        let added: Vec<_> = added.map(|h| h.header.clone().unwrap().key).collect();
        assert_eq!(added, ["x-ombre-decision", "set-cookie"]);
        let cohorts: Vec<_> = host.virtual_clusters.iter().map(|c| &c.name).collect();
        assert_eq!(cohorts, ["look_dark", "look_plain"]);
    }
}

#[test]
fn the_filter_gets_its_documents_and_its_code() {
    let extension: TypedExtensionConfig = resource(Type::Extension, "ombre");
    assert_eq!(extension.name, "ombre");
    let wasm: Wasm = unpack(&extension.typed_config.unwrap());
    let plugin = wasm.config.unwrap();
    assert_eq!(plugin.root_id, "worker");
    let documents: BytesValue = unpack(&plugin.configuration.unwrap());
    assert_eq!(documents.value, b"documents");
    let Some(Vm::VmConfig(vm)) = plugin.vm else {
        panic!("no VM");
    };
    assert_eq!(vm.vm_id, "ombre");
    assert!(format!("{:?}", vm.code).contains("/opt/ombre.wasm"));
}
