//! Everything that has to run while requests are measured: one Envoy, for timing with one worker, and a listener
//! per case, what answers behind it, and what the pollers fetch policies from.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::binaries;
use ombre_tests::ports::Port;
use ombre_tests::process::{Group, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cases::{Case, Files, Kind, Policy};
use super::{delivery, load, policies, upstream};

const SOON: Duration = Duration::from_secs(60);
const PROBE: &[u8] = b"GET /shop/probe HTTP/1.1\r\nhost: x\r\nx-user-id: probe\r\n\r\n";

/// What answers requests behind the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// A local upstream: the whole request as it costs in use.
    Upstream,
    /// Nobody: the clusters have no hosts, so that Envoy itself answers 503 once the cluster is
    /// chosen. Without the share of the upstream, filters differ more clearly.
    Nobody,
}

/// All of it, running. Dropping it ends Envoy.
pub(crate) struct Stage {
    process: Process,
    listeners: Vec<Port>,
    answers: Answers,
    _dir: TempDir,
}

impl Answers {
    /// The status of every answer.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Upstream => 200,
            Self::Nobody => 503,
        }
    }

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Upstream => "with a local upstream",
            Self::Nobody => "without an upstream",
        }
    }

    /// For file names and programs.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Nobody => "alone",
        }
    }
}

impl Stage {
    /// Starts it and waits until every case decides.
    pub(crate) fn start(cases: &[Case], answers: Answers, workers: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ombre-bench-").tempdir()?;
        let listeners: Result<Vec<Port>> = cases.iter().map(|_| Port::free()).collect();
        let listeners = listeners?;
        let config = config(cases, &listeners, answers, dir.path())?;
        let path = dir.path().join("envoy.json");
        fs::write(&path, serde_json::to_string_pretty(&config)?)?;
        let mut command = Command::new(binaries::envoy()?);
        command.args([
            "--concurrency",
            &workers.to_string(),
            "--log-level",
            "warning",
            "--use-dynamic-base-id",
            "-c",
        ]);
        command.arg(&path);
        let log = dir.path().join("envoy.log");
        let process = Process::start("envoy", command, &log, Group::Shared)?;
        let mut stage = Self {
            process,
            listeners,
            answers,
            _dir: dir,
        };
        stage.wait(cases)?;
        Ok(stage)
    }

    /// Where the cases listen, in their order.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(Port::address)
    }

    pub(crate) const fn answers(&self) -> Answers {
        self.answers
    }

    /// The process id of Envoy.
    pub(crate) fn envoy(&self) -> u32 {
        self.process.id()
    }

    fn wait(&mut self, cases: &[Case]) -> Result<()> {
        let start = Instant::now();
        for (case, address) in cases.iter().zip(self.listeners().collect::<Vec<_>>()) {
            while let Err(error) = ready(case, address, self.answers) {
                self.process.check()?;
                let late = format!(
                    "case `{}`: {error:#}\n{}",
                    case.name,
                    self.process.log_tail()
                );
                ensure!(start.elapsed() < SOON, late);
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// Whether the listener answers, and by what it is there for.
fn ready(case: &Case, address: SocketAddr, answers: Answers) -> Result<()> {
    let mut stream = load::connect(address)?;
    std::io::Write::write_all(&mut stream, PROBE)?;
    let mut buffer = Vec::new();
    let answer = load::read(&mut stream, &mut buffer)?;
    ensure!(
        answer.status == answers.status(),
        "status {}",
        answer.status
    );
    let head = String::from_utf8_lossy(&buffer).to_ascii_lowercase();
    let decides = matches!(case.kind, Kind::Ombre(..) | Kind::Lua { .. });
    ensure!(
        !decides || head.contains("x-ombre-decision: route=shop-pages"),
        "no decision:\n{head}"
    );
    Ok(())
}

fn config(cases: &[Case], ports: &[Port], answers: Answers, dir: &Path) -> Result<Value> {
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
