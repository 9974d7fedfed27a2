//! A real Envoy takes what `ombre bootstrap` prints, in every combination of its arguments, and
//! the resources that a policy with clusters and listeners makes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy_types::pb::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::{self as core, TypedExtensionConfig};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::util::pack_any;
use ombre_policy::load::load_text;
use ombre_policy::policy::Policy;
use ombre_tests::binaries;
use ombre_xds::node::Node;
use ombre_xds::resources::{self, Extension, NodeGroup};
use ombre_xds::snapshot::{Resources, Revisions, Snapshot, Type};
use prost::Message;

/// Every option of clusters and listeners; the files of TLS stand where Envoy runs.
const POLICY: &str = r#"
apiVersion: ombre/v1
services:
  - name: checkout
    routes: [{ name: checkout, path: "/checkout/{*rest}" }]
    versions: [{ name: v1, cluster: "checkout/v1:blue" }, { name: v2, cluster: full }]
    default: v1
    unit: [mint]
    experiments:
      - { experiment: look, groups: [{ name: dark.1, weight: 40 }, { name: plain, weight: 60 }] }
      - { experiment: size, groups: [{ name: big, weight: 100 }] }
clusters:
  - { name: "checkout/v1:blue", endpoints: [127.0.0.1:8080] }
  - name: full
    endpoints: [{ address: "127.0.0.2:1", weight: 1000, health: draining }, { address: "[::1]:2", health: unhealthy }]
    connect_timeout: 24h
    http2: true
    tls: { sni: a.b, ca: cert.pem, cert: cert.pem, key: key.pem, san: [a.b, "spiffe://x/y", 10.0.0.2] }
    circuit_breakers: { connections: 1, pending: 1, requests: 4294967295 }
    outlier_detection: { consecutive_5xx: 1, consecutive_local_origin_failure: 1, interval: 1ms, base_ejection: 24h, max_ejection_percent: 0 }
  - { name: dns, dns: "localhost:9", tls: { ca: cert.pem }, outlier_detection: off }
listeners:
  - { name: open, address: 127.0.0.1:8080, default_cluster: full, timeout: 24h }
  - { name: secure, address: "[::1]:8443", default_cluster: dns, timeout: 0s, tls: { cert: cert.pem, key: key.pem } }
"#;

/// Whether Envoy takes a configuration; what it says when it does not.
fn validate(dir: &Path, config: &str) -> Result<()> {
    let envoy = Command::new(binaries::envoy()?)
        .args(["--mode", "validate", "--log-level", "error", "-c", config])
        .current_dir(dir)
        .output()?;
    let said = String::from_utf8_lossy(&envoy.stderr);
    ensure!(envoy.status.success(), "`{config}` is refused: {said}");
    Ok(())
}

fn dir_with_certificate() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let own = rcgen::generate_simple_self_signed(vec!["a.b".to_owned()])?;
    fs::write(dir.path().join("cert.pem"), own.cert.pem())?;
    fs::write(dir.path().join("key.pem"), own.signing_key.serialize_pem())?;
    Ok(dir)
}

#[test]
fn envoy_takes_every_bootstrap() -> Result<()> {
    let dir = dir_with_certificate()?;
    let controllers: [&[&str]; 3] = [
        &[],
        &["--controller", "localhost:18000"],
        &["--controller", "[::1]:18000"],
    ];
    let ca = ["--ca", "cert.pem"];
    let identity = ["--ca", "cert.pem", "--cert", "cert.pem", "--key", "key.pem"];
    let named = ["--ca", "cert.pem", "--san", "spiffe://x/ombre"];
    let securities: [&[&str]; 4] = [&[], &ca, &identity, &named];
    let strange = "a \"b\\': {c} #d é";
    let pair = format!("{strange}={strange}");
    let others: [&[&str]; 3] = [
        &["--node", "edge-1"],
        &["--node", "edge-1", "--delta", "--admin", "[::1]:1"],
        &[
            "--node",
            strange,
            "--metadata",
            &pair,
            "--metadata",
            "zone=a",
        ],
    ];
    for controller in controllers {
        for security in securities {
            for other in others {
                let args = [controller, security, other].concat();
                let printed = Command::new(binaries::ombre()?)
                    .args(["bootstrap", "--cluster", "edge"])
                    .args(&args)
                    .output()?;
                let said = String::from_utf8_lossy(&printed.stderr);
                ensure!(printed.status.success(), "{args:?}: {said}");
                fs::write(dir.path().join("bootstrap.yaml"), printed.stdout)?;
                validate(dir.path(), "bootstrap.yaml").with_context(|| format!("{args:?}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn envoy_takes_the_resources_of_a_policy() -> Result<()> {
    let dir = dir_with_certificate()?;
    let bootstrap = in_place(&snapshot(POLICY)?)?;
    fs::write(dir.path().join("all.pb"), bootstrap.encode_to_vec())?;
    validate(dir.path(), "all.pb")
}

#[test]
fn envoy_refuses_what_is_wrong_with_a_resource() -> Result<()> {
    let dir = dir_with_certificate()?;
    let policy = POLICY.replace("cert: cert.pem", "cert: nowhere.pem");
    let bootstrap = in_place(&snapshot(&policy)?)?;
    fs::write(dir.path().join("all.pb"), bootstrap.encode_to_vec())?;
    let refusal = validate(dir.path(), "all.pb").err();
    let refusal = refusal.context("Envoy took it")?.to_string();
    ensure!(refusal.contains("nowhere.pem"), "{refusal}");
    Ok(())
}

fn snapshot(text: &str) -> Result<Snapshot> {
    let policy: Policy = load_text(text)?.policy;
    let extension = Extension {
        wasm: binaries::wasm()?.display().to_string(),
        configuration: Vec::new(),
        revisions: Revisions::default(),
    };
    let node = core::Node {
        id: "envoy-1".to_owned(),
        ..core::Node::default()
    };
    let group = NodeGroup::of(&policy, &Node::read(Some(&node))?);
    Ok(resources::of(&policy, &extension, &group))
}

/// One configuration in which everything stands that would come one by one: what Envoy would ask
/// a controller for, it does not check before it has an answer.
fn in_place(snapshot: &Snapshot) -> Result<Bootstrap> {
    let extensions: Vec<TypedExtensionConfig> = decoded(snapshot.of(Type::Extension))?;
    let filter = extensions.first().context("no filter")?;
    let mut clusters: Vec<Cluster> = decoded(snapshot.of(Type::Cluster))?;
    let mut listeners: Vec<Listener> = decoded(snapshot.of(Type::Listener))?;
    for cluster in &mut clusters {
        if let Some(endpoints) = snapshot.of(Type::Endpoint).get(&cluster.name) {
            let endpoints = ClusterLoadAssignment::decode(endpoints.body())?;
            cluster.load_assignment = Some(endpoints);
            cluster.eds_cluster_config = None;
            let kind = ClusterDiscoveryType::Type(DiscoveryType::Static.into());
            cluster.cluster_discovery_type = Some(kind);
        }
    }
    for listener in &mut listeners {
        let routes = snapshot.of(Type::Route).get(&listener.name);
        let routes = RouteConfiguration::decode(routes.context("no routes")?.body())?;
        let chains = listener.filter_chains.iter_mut();
        for network in chains.flat_map(|chain| &mut chain.filters) {
            let Some(FilterConfig::TypedConfig(any)) = &mut network.config_type else {
                continue;
            };
            let mut manager = HttpConnectionManager::decode(any.value.as_slice())?;
            manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes.clone()));
            for http in manager
                .http_filters
                .iter_mut()
                .filter(|http| http.name == "ombre")
            {
                http.config_type = filter.typed_config.clone().map(ConfigType::TypedConfig);
            }
            *any = pack_any(manager);
        }
    }
    Ok(Bootstrap {
        static_resources: Some(StaticResources {
            listeners,
            clusters,
            ..StaticResources::default()
        }),
        admin: Some(Admin::default()),
        ..Bootstrap::default()
    })
}

fn decoded<M: Message + Default>(resources: &Resources) -> Result<Vec<M>> {
    let all = resources.values().map(|one| M::decode(one.body()));
    Ok(all.collect::<Result<_, _>>()?)
}
