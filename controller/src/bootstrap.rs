//! `ombre bootstrap`: prints what an Envoy starts with that gets all else from the controller.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use ombre_policy::policy::{OWN_CLUSTER, SubjectName};

use crate::args::{BootstrapArgs, Upstream};
use crate::stdout::say;

/// Prints the bootstrap.
///
/// # Errors
/// When standard output cannot be written to.
pub fn run(args: &BootstrapArgs) -> anyhow::Result<ExitCode> {
    say(bootstrap(args).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn bootstrap(args: &BootstrapArgs) -> String {
    let BootstrapArgs {
        id,
        cluster,
        controller,
        delta,
        admin,
        max_connections,
        ..
    } = args;
    let (host, port, kind) = match controller {
        Upstream::Address(address) => (address.ip().to_string(), address.port(), "STATIC"),
        Upstream::Name(name, port) => (name.clone(), *port, "STRICT_DNS"),
    };
    let api = if *delta { "DELTA_GRPC" } else { "GRPC" };
    let tls = args.ca.as_deref();
    let tls = tls.map_or(String::new(), |ca| tls_socket(args, ca, &host));
    let (id, cluster, metadata) = (Quoted(id), Quoted(cluster), metadata(args));
    let (host, admin_host, admin_port) = (
        Quoted(&host),
        Quoted(&admin.ip().to_string()).to_string(),
        admin.port(),
    );
    format!(
        r#"# What Envoy starts with to get everything else from ombre, as `ombre bootstrap` has written it.
node:
  id: {id}
  cluster: {cluster}
{metadata}
dynamic_resources:
  # Everything over one stream, which keeps the order that loses no request.
  ads_config:
    api_type: {api}
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
      - envoy_grpc:
          cluster_name: {OWN_CLUSTER}
          # How soon a controller that was away is found again.
          retry_policy: {{ retry_back_off: {{ base_interval: 0.25s, max_interval: 5s }} }}
  # Without the controller there is nothing to serve: Envoy is ready (/ready) when it has both, and not
  # when it has waited 15 s for each, its default.
  cds_config: {{ ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s }}
  lds_config: {{ ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s }}

# What has no address: a name server that is silent holds a new cluster up, with the policy that needs
# it, for a few seconds and not for minutes.
typed_dns_resolver_config:
  name: envoy.network.dns_resolver.cares
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
    query_timeout_seconds: 1
    query_tries: 2

static_resources:
  clusters:
    # The controller. Envoy goes on with what it has while the controller is away.
    - name: {OWN_CLUSTER}
      type: {kind}
      dns_lookup_family: V4_PREFERRED
      connect_timeout: 1s
      load_assignment:
        cluster_name: {OWN_CLUSTER}
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }} }}] }}]
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            # A stream is silent for as long as nothing changes: this is how a dead one is found.
            http2_protocol_options: {{ connection_keepalive: {{ interval: 10s, timeout: 5s }} }}
      upstream_connection_options:
        tcp_keepalive: {{ keepalive_probes: 3, keepalive_time: 10, keepalive_interval: 5 }}
{tls}
# The controller judges a version by the share of requests slower than 400 and 800 ms: these limits
# have to be bounds of the histogram.
stats_config:
  histogram_bucket_settings:
    - match: {{ prefix: cluster. }}
      buckets: [1, 5, 10, 25, 50, 100, 200, 400, 800, 1600, 3200, 10000, 30000]

# More connections of clients than this are closed at once, before Envoy has no memory or open files
# left. The admin interface does not count.
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {max_connections}

# Whoever reaches this can stop Envoy.
admin:
  ignore_global_conn_limit: true
  address: {{ socket_address: {{ address: {admin_host}, port_value: {admin_port} }} }}
"#
    )
}

fn metadata(args: &BootstrapArgs) -> String {
    // Of a key that is given twice, the last counts.
    let texts: BTreeMap<_, _> = args
        .metadata
        .iter()
        .map(|(key, text)| (key, text))
        .collect();
    if texts.is_empty() {
        return String::new();
    }
    let lines = texts.iter();
    let lines = lines.map(|(key, text)| format!("    {}: {}\n", Quoted(key), Quoted(text)));
    format!("  metadata:\n{}", lines.collect::<String>())
}

fn tls_socket(args: &BootstrapArgs, ca: &str, host: &str) -> String {
    let name = args.san.as_deref().unwrap_or(host);
    let kind = match SubjectName::of(name) {
        SubjectName::Dns(_) => "DNS",
        SubjectName::Uri(_) => "URI",
        SubjectName::Ip(_) => "IP_ADDRESS",
    };
    let (name, ca) = (Quoted(name), Quoted(ca));
    // A server name is a name: an address is none.
    let sni = match &args.controller {
        Upstream::Name(host, _) => format!("          sni: {}\n", Quoted(host)),
        Upstream::Address(_) => String::new(),
    };
    let identity = args.cert.as_deref().zip(args.key.as_deref());
    let identity = identity.map_or(String::new(), |(cert, key)| {
        let (cert, key) = (Quoted(cert), Quoted(key));
        format!(
            "            tls_certificates: [{{ certificate_chain: {{ filename: {cert} }}, private_key: {{ filename: {key} }} }}]\n"
        )
    });
    format!(
        r#"      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
{sni}          common_tls_context:
            alpn_protocols: [h2]
{identity}            validation_context:
              trusted_ca: {{ filename: {ca} }}
              match_typed_subject_alt_names: [{{ san_type: {kind}, matcher: {{ exact: {name} }} }}]
"#
    )
}

/// A text in double quotes, as YAML reads it. Control characters are not let in by the arguments.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => write!(f, "{character}")?,
                _ => write!(f, "\\U{:08x}", u32::from(character))?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::args::{Args, Command};

    fn parsed(args: &[&str]) -> Value {
        let base = [
            "ombre",
            "bootstrap",
            "--node",
            "edge-1",
            "--cluster",
            "edge",
        ];
        let args = Args::try_parse_from([&base, args].concat()).unwrap();
        let Command::Bootstrap(args) = args.command else {
            panic!("another command");
        };
        serde_saphyr::from_str(&bootstrap(&args)).unwrap()
    }

    fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
        value.pointer(path).unwrap_or(&Value::Null)
    }

    const CLUSTER: &str = "/static_resources/clusters/0";
    const ADDRESS: &str =
        "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    const CONNECTIONS: &str =
        "/overload_manager/resource_monitors/0/typed_config/max_active_downstream_connections";
    const TLS: &str = "/transport_socket/typed_config";

    #[test]
    fn arguments_are_where_they_belong() {
        let plain = parsed(&[]);
        let full = parsed(&[
            "--controller",
            "ombre.internal:1",
            "--delta",
            "--admin",
            "[::1]:2",
            "--metadata",
            "zone=a",
            "--max-connections",
            "7",
            "--ca",
            "ca.pem",
            "--cert",
            "c.pem",
            "--key",
            "k.pem",
        ]);
        let spiffe = parsed(&["--ca", "ca.pem", "--san", "spiffe://x/ombre"]);
        let cluster = |rest: &str| format!("{CLUSTER}{rest}");
        let san = cluster(&format!(
            "{TLS}/common_tls_context/validation_context/match_typed_subject_alt_names/0"
        ));
        for (value, path, expected) in [
            (&plain, "/node/id".to_owned(), Value::from("edge-1")),
            (&plain, "/node/cluster".to_owned(), "edge".into()),
            (&plain, "/node/metadata".to_owned(), Value::Null),
            (
                &plain,
                "/dynamic_resources/ads_config/api_type".to_owned(),
                "GRPC".into(),
            ),
            (&plain, cluster("/type"), "STATIC".into()),
            (
                &plain,
                cluster(&format!("{ADDRESS}/address")),
                "127.0.0.1".into(),
            ),
            (
                &plain,
                cluster(&format!("{ADDRESS}/port_value")),
                18000.into(),
            ),
            (&plain, cluster("/transport_socket"), Value::Null),
            (
                &plain,
                "/admin/address/socket_address/port_value".to_owned(),
                9901.into(),
            ),
            (&full, "/node/metadata/zone".to_owned(), "a".into()),
            (&plain, CONNECTIONS.to_owned(), 50_000.into()),
            (&full, CONNECTIONS.to_owned(), 7.into()),
            (
                &full,
                "/dynamic_resources/ads_config/api_type".to_owned(),
                "DELTA_GRPC".into(),
            ),
            (&full, cluster("/type"), "STRICT_DNS".into()),
            (
                &full,
                cluster(&format!("{ADDRESS}/address")),
                "ombre.internal".into(),
            ),
            (
                &full,
                "/admin/address/socket_address/address".to_owned(),
                "::1".into(),
            ),
            (
                &full,
                cluster(&format!("{TLS}/sni")),
                "ombre.internal".into(),
            ),
            (&full, format!("{san}/san_type"), "DNS".into()),
            (
                &full,
                format!("{san}/matcher/exact"),
                "ombre.internal".into(),
            ),
            (
                &full,
                cluster(&format!(
                    "{TLS}/common_tls_context/tls_certificates/0/private_key/filename"
                )),
                "k.pem".into(),
            ),
            (&spiffe, cluster(&format!("{TLS}/sni")), Value::Null),
            (&spiffe, format!("{san}/san_type"), "URI".into()),
            (
                &spiffe,
                format!("{san}/matcher/exact"),
                "spiffe://x/ombre".into(),
            ),
        ] {
            assert_eq!(*at(value, &path), expected, "{path}");
        }
    }

    #[test]
    fn an_envoy_without_its_controller_is_never_ready() {
        let value = parsed(&[]);
        for kind in ["cds_config", "lds_config"] {
            let path = format!("/dynamic_resources/{kind}/initial_fetch_timeout");
            assert_eq!(*at(&value, &path), "0s", "{kind}");
        }
    }

    #[test]
    fn a_silent_name_server_is_given_up_soon() {
        let value = parsed(&[]);
        let resolver = at(&value, "/typed_dns_resolver_config/typed_config");
        for (key, most) in [("query_timeout_seconds", 1), ("query_tries", 2)] {
            assert_eq!(resolver[key], most, "{key}");
        }
    }

    #[test]
    fn what_would_be_half_or_unread_is_refused() {
        let base = ["ombre", "bootstrap", "--node", "a", "--cluster", "b"];
        for args in [
            &["--cert", "c.pem", "--key", "k.pem"][..],
            &["--ca", "ca.pem", "--cert", "c.pem"],
            &["--ca", "ca.pem", "--key", "k.pem"],
            &["--san", "ombre.internal"],
            &["--metadata", "zone"],
            &["--max-connections", "0"],
            &["--controller", "ombre"],
        ] {
            let args = [&base[..], args].concat();
            assert!(Args::try_parse_from(&args).is_err(), "{args:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(id in "[^\\pC]{1,40}", text in "[ -~]{1,40}") {
            let value = parsed(&[&format!("--metadata=key={text}"), &format!("--ca={text}")]);
            let ca = "/common_tls_context/validation_context/trusted_ca/filename";
            prop_assert_eq!(at(&value, &format!("{CLUSTER}{TLS}{ca}")), &Value::from(text.as_str()));
            prop_assert_eq!(at(&value, "/node/metadata/key"), &Value::from(text.as_str()));
            let quoted = serde_saphyr::from_str::<String>(&Quoted(&id).to_string()).unwrap();
            prop_assert_eq!(quoted, id);
        }
    }
}
