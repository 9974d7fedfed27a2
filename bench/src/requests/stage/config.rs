//! The configuration of the Envoy that is measured: a listener per case, each in the same frame, and the
//! clusters behind them, of which this starts those that live in this program.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ombre_tests::binaries;
use ombre_tests::ports::Port;
use serde_json::{Value, json};

use super::Answers;
use crate::requests::cases::{Case, Files, Kind, PROCESSOR, Policy};
use crate::requests::{delivery, policies, upstream};

/// Of all cases, which listen at these ports.
pub(super) fn of(
    cases: &[Case],
    ports: &[Port],
    answers: Answers,
    processor: Option<SocketAddr>,
    dir: &Path,
) -> Result<Value> {
    let ombre = binaries::wasm()?;
    let sdk_noop = binaries::workspace().join("target/noop.wasm");
    ensure!(
        sdk_noop.is_file(),
        "`{}` is not built: run bench/build-noop",
        sdk_noop.display()
    );
    let sources = binaries::workspace().join("bench/cases");
    let raw_noop = dir.join("noop.wasm");
    fs::write(&raw_noop, wat::parse_file(sources.join("noop.wat"))?)?;
    let script = fs::read_to_string(sources.join("classify.lua")).context("no script")?;
    let [lua, lua_own_hash] =
        ["false", "true"].map(|own_hash| dir.join(format!("own-hash-{own_hash}.lua")));
    fs::write(&lua, script.replace("@OWN_HASH@", "false"))?;
    fs::write(&lua_own_hash, script.replace("@OWN_HASH@", "true"))?;
    let files = Files {
        ombre: &ombre,
        raw_noop: &raw_noop,
        sdk_noop: &sdk_noop,
        lua: &lua,
        lua_own_hash: &lua_own_hash,
    };

    let mut clusters = Vec::new();
    for name in ["demo_v1", "demo_v2"] {
        clusters.push(match answers {
            Answers::Upstream => cluster(name, Some(upstream::start(name)?)),
            Answers::Nobody => cluster(name, None),
        });
    }
    clusters.extend(processor.map(grpc_cluster));
    let mut pollers = Vec::new();
    for case in cases {
        let (Kind::Ombre(policy, _), Some(vm)) = (&case.kind, case.vm(&files)) else {
            continue;
        };
        let text = match policy {
            Policy::Demo => policies::demo()?,
            Policy::Large => policies::large()?,
        };
        let name = format!("controller-{}", case.vm_id());
        clusters.push(cluster(
            &name,
            Some(delivery::start(delivery::sealed(text)?)?),
        ));
        pollers.push(poller(&name, &vm));
    }
    let pairs = cases.iter().zip(ports);
    let listeners: Vec<Value> = pairs
        .map(|(case, port)| listener(case, port, &files))
        .collect();
    Ok(json!({
        "node": { "id": "bench", "cluster": "bench" },
        "bootstrap_extensions": pollers,
        "static_resources": { "listeners": listeners, "clusters": clusters },
    }))
}

fn poller(cluster: &str, vm: &Value) -> Value {
    json!({ "name": "envoy.bootstrap.wasm", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
        "singleton": true,
        "config": {
            "name": format!("poller-{cluster}"),
            "root_id": "poller",
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": json!({ "cluster": cluster }).to_string(),
            },
            "vm_config": vm,
        },
    }})
}

fn cluster(name: &str, host: Option<SocketAddr>) -> Value {
    let endpoint = |host: SocketAddr| json!({ "endpoint": { "address": { "socket_address": { "address": host.ip().to_string(), "port_value": host.port() } } } });
    let hosts: Vec<Value> = host.map(endpoint).into_iter().collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": hosts }] },
    })
}

/// The external processor's.
fn grpc_cluster(host: SocketAddr) -> Value {
    let mut cluster = cluster(PROCESSOR, Some(host));
    if let Some(fields) = cluster.as_object_mut() {
        let options = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        }});
        fields.insert("typed_extension_protocol_options".to_owned(), options);
    }
    cluster
}

/// As in `envoy/envoy.yaml`, without what no case has.
fn listener(case: &Case, port: &Port, files: &Files<'_>) -> Value {
    let guard = json!([{ "name": "guard", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [
            { "remove_on_match": { "key_matcher": { "prefix": "x-ombre-", "ignore_case": true } } },
            { "append": {
                "header": { "key": "x-ombre-cluster", "value": "demo_v1" },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            } },
        ],
    }}]);
    let told = json!([
        { "header": { "key": "x-ombre-decision", "value": "%REQ(x-ombre-decision)%" }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" },
        { "header": { "key": "set-cookie", "value": "%REQ(x-ombre-set-cookie)%" }, "append_action": "APPEND_IF_EXISTS_OR_ADD" },
    ]);
    let (guard, told) = if case.is_framed() {
        (guard, told)
    } else {
        (json!([]), json!([]))
    };
    let router = json!({ "name": "router", "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } });
    let filters: Vec<Value> = case.filter(files).into_iter().chain([router]).collect();
    json!({
        "name": case.name,
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": port.number() } },
        "filter_chains": [{ "filters": [{ "name": "hcm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "traffic",
            "use_remote_address": true,
            "preserve_external_request_id": true,
            "normalize_path": true,
            "merge_slashes": true,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
            "max_request_headers_kb": 96,
            "common_http_protocol_options": { "max_headers_count": 400, "idle_timeout": "3600s" },
            "early_header_mutation_extensions": guard,
            "http_filters": filters,
            "route_config": {
                "name": case.name,
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": case.routes() }],
                "response_headers_to_add": told,
            },
        }}]}],
    })
}
