//! What is compared, each as the part of a listener's configuration by which it differs. All of
//! them get the same requests and all but the first two stand in the same frame: the guard before
//! routing and the one route by `x-ombre-cluster`, as in `envoy/envoy.yaml`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub(crate) const NONE: &str = "no filter, static route";
const NATIVE: &str = "Envoy native routes";
const FRAME: &str = "guard and cluster_header alone";
pub(crate) const RAW: &str = "no-op wasm, hand-written";
pub(crate) const SDK: &str = "no-op wasm, SDK";
pub(crate) const DEMO: &str = "ombre, demo policy";
pub(crate) const LARGE: &str = "ombre, 10,000 routes";
pub(crate) const LUA: &str = "Lua, same decisions";
/// How other builds are called.
pub(crate) const BUILD: &str = "ombre, build ";
const LUA_OWN: &str = "Lua, own 32-bit hash";
const EXT_PROC: &str = "ext_proc, same decisions";
/// The cluster of the external processor.
pub(crate) const PROCESSOR: &str = "processor";

/// The ratios that are printed.
pub(crate) const COMPARED: [(&str, &str); 9] = [
    (DEMO, LUA),
    (DEMO, LUA_OWN),
    (DEMO, EXT_PROC),
    (DEMO, SDK),
    (DEMO, RAW),
    (DEMO, NONE),
    (DEMO, NATIVE),
    (LARGE, DEMO),
    (SDK, RAW),
];

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One static route.
    Nothing,
    /// Routes that match headers, and weighted clusters.
    Native,
    /// The frame alone.
    Frame,
    /// The hand-written module.
    RawNoop,
    /// The SDK's.
    SdkNoop,
    /// ombre under a policy; of another build when there is a path.
    Ombre(Policy, Option<PathBuf>),
    /// The script; with its own hash or with ombre's.
    Lua { own_hash: bool },
    /// ombre's own decision, by a server that Envoy asks.
    ExtProc,
}

/// Which policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Demo,
    Large,
}

/// Every case, in the order of the table; other builds of the filter last.
pub(crate) fn all(builds: &[(String, PathBuf)]) -> Vec<Case> {
    let fixed = [
        (NONE, Kind::Nothing),
        (NATIVE, Kind::Native),
        (FRAME, Kind::Frame),
        (RAW, Kind::RawNoop),
        (SDK, Kind::SdkNoop),
        (DEMO, Kind::Ombre(Policy::Demo, None)),
        (LARGE, Kind::Ombre(Policy::Large, None)),
        (LUA, Kind::Lua { own_hash: false }),
        (LUA_OWN, Kind::Lua { own_hash: true }),
        (EXT_PROC, Kind::ExtProc),
    ];
    let fixed = fixed.map(|(name, kind)| (name.to_owned(), kind));
    let builds = builds.iter().map(|(name, path)| {
        let kind = Kind::Ombre(Policy::Demo, Some(path.clone()));
        (format!("{BUILD}{name}"), kind)
    });
    let all = fixed.into_iter().chain(builds);
    all.map(|(name, kind)| Case { name, kind }).collect()
}

/// Files that the cases need.
pub(crate) struct Files<'a> {
    pub(crate) ombre: &'a Path,
    pub(crate) raw_noop: &'a Path,
    pub(crate) sdk_noop: &'a Path,
    pub(crate) lua: &'a Path,
    pub(crate) lua_own_hash: &'a Path,
}

impl Case {
    /// What tells the VMs of this case from those of others.
    pub(crate) fn vm_id(&self) -> String {
        self.name.replace([' ', ','], "-")
    }

    /// Whether the frame is around it.
    pub(crate) fn is_framed(&self) -> bool {
        !matches!(self.kind, Kind::Nothing | Kind::Native)
    }

    /// The wasm VM of this case, if it has one.
    pub(crate) fn vm(&self, files: &Files<'_>) -> Option<Value> {
        let file = match &self.kind {
            Kind::RawNoop => files.raw_noop,
            Kind::SdkNoop => files.sdk_noop,
            Kind::Ombre(_, build) => build.as_deref().unwrap_or(files.ombre),
            _ => return None,
        };
        Some(json!({
            "vm_id": self.vm_id(),
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": file } },
        }))
    }

    /// The HTTP filter, if there is one.
    pub(crate) fn filter(&self, files: &Files<'_>) -> Option<Value> {
        if let Kind::Lua { own_hash } = self.kind {
            let script = if own_hash {
                files.lua_own_hash
            } else {
                files.lua
            };
            return Some(json!({ "name": "lua", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "default_source_code": { "filename": script },
            }}));
        }
        if self.kind == Kind::ExtProc {
            return Some(processor());
        }
        let vm = self.vm(files)?;
        Some(json!({ "name": "wasm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": self.vm_id(),
                "root_id": "worker",
                "vm_config": vm,
                "failure_policy": "FAIL_RELOAD",
            },
        }}))
    }

    /// The routes of its only virtual host.
    pub(crate) fn routes(&self) -> Value {
        match self.kind {
            Kind::Nothing => json!([{ "match": { "prefix": "/" }, "route": to("demo_v1") }]),
            Kind::Native => native_routes(),
            _ => {
                json!([{ "match": { "prefix": "/" }, "route": { "cluster_header": "x-ombre-cluster", "timeout": "15s" } }])
            }
        }
    }
}

/// Only the headers of requests are sent, the fewest messages there can be: Envoy closes the stream as
/// soon as it has the answer.
fn processor() -> Value {
    json!({ "name": "ext_proc", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        "grpc_service": { "envoy_grpc": { "cluster_name": PROCESSOR } },
        "failure_mode_allow": false,
        "message_timeout": "5s",
        "processing_mode": {
            "request_header_mode": "SEND",
            "response_header_mode": "SKIP",
            "request_body_mode": "NONE",
            "response_body_mode": "NONE",
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SKIP",
        },
        // The color's header begins with `x-envoy-`.
        "mutation_rules": { "allow_envoy": true },
    }})
}

fn to(cluster: &str) -> Value {
    json!({ "cluster": cluster, "timeout": "15s" })
}

/// As much of the demo policy as routes can say. They can not: negotiate by weight, drop invalid
/// colors, hand the color on by baggage, give users an identity, say why. The split is Envoy's own
/// by a hash of the user, so other users are in the 20 %.
fn native_routes() -> Value {
    let header = |name: &str, matches: Value| json!({ "name": name, "string_match": matches });
    let query =
        |name: &str, value: &str| json!({ "name": name, "string_match": { "exact": value } });
    let mut routes = Vec::new();
    for prefix in ["/api/", "/shop/"] {
        for (cluster, major) in [("demo_v2", "2"), ("demo_v1", "1")] {
            let asks = format!("application/vnd\\..*v{major}([.+;, ].*)?");
            let mut matches = vec![
                json!({ "prefix": prefix, "headers": [header("accept", json!({ "safe_regex": { "regex": format!(".*{asks}") } }))] }),
                json!({ "prefix": prefix, "headers": [header("x-api-version", json!({ "exact": major }))] }),
                json!({ "prefix": prefix, "query_parameters": [query("version", major)] }),
            ];
            if prefix == "/api/" {
                matches.insert(1, json!({ "prefix": format!("/api/v{major}/") }));
            }
            routes.extend(matches.into_iter().map(|matches| (matches, cluster)));
        }
        let colors = [
            json!({ "prefix": prefix, "headers": [header("x-envoy-traffic-color", json!({ "exact": "canary-v2" }))] }),
            json!({ "prefix": prefix, "headers": [header("cookie", json!({ "contains": "traffic_color=canary-v2" }))] }),
        ];
        routes.extend(colors.map(|matches| (matches, "demo_v2")));
    }
    let mut routes: Vec<Value> = routes
        .into_iter()
        .map(|(matches, cluster)| json!({ "match": matches, "route": to(cluster), "request_headers_to_add": metadata(cluster) }))
        .collect();
    let weighted = |cluster: &str, weight: u32| json!({ "name": cluster, "weight": weight, "request_headers_to_add": metadata(cluster) });
    for prefix in ["/api/", "/shop/"] {
        routes.push(json!({ "match": { "prefix": prefix }, "route": {
            "weighted_clusters": { "clusters": [weighted("demo_v1", 80), weighted("demo_v2", 20)], "use_hash_policy": true },
            "hash_policy": [{ "header": { "header_name": "x-user-id" } }],
            "timeout": "15s",
        }}));
    }
    routes.push(json!({ "match": { "prefix": "/" }, "route": to("demo_v1") }));
    Value::Array(routes)
}

/// What the upstream is told of its version.
fn metadata(cluster: &str) -> Value {
    let values = match cluster {
        "demo_v2" => [
            ("x-api-version", "v2.0"),
            ("x-env-stage", "canary"),
            ("x-build-id", "bld-b71c004"),
        ],
        _ => [
            ("x-api-version", "v1.0"),
            ("x-env-stage", "prod"),
            ("x-build-id", "bld-9a3f2e1"),
        ],
    };
    let set = |(key, value)| json!({ "header": { "key": key, "value": value }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" });
    values.map(set).into_iter().collect()
}
