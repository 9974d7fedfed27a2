//! `ombre-filter-link IN OUT`: the last step of the filter's build. The SDK exports every callback
//! there is, and Envoy makes each exported callback for each request, so all but the ones that the
//! filter needs are dropped; `ombre_on_...` takes the place of the SDK's `proxy_on_...`. Code that
//! nothing calls any more goes with them.

use std::env::args;

use anyhow::{Context, Result, ensure};
use walrus::{Module, passes};

/// What Envoy may call. A request causes one of them, the headers.
const KEPT: [&str; 10] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_request_headers",
    "proxy_on_memory_allocate",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_http_call_response",
];

fn main() -> Result<()> {
    let mut paths = args().skip(1);
    let input = paths.next().context("no input named")?;
    let output = paths.next().context("no output named")?;
    let mut module = Module::from_file(&input)?;
    let exports = |module: &Module| -> Vec<_> {
        let each = module.exports.iter();
        each.map(|export| (export.id(), export.name.clone()))
            .collect()
    };
    let before = exports(&module);
    let own: Vec<String> = before
        .iter()
        .filter_map(|(_, name)| Some(format!("proxy_{}", name.strip_prefix("ombre_")?)))
        .collect();
    for (id, name) in before {
        if own.contains(&name) {
            module.exports.delete(id);
        } else if let Some(callback) = name.strip_prefix("ombre_") {
            module.exports.get_mut(id).name = format!("proxy_{callback}");
        }
    }
    for (id, name) in exports(&module) {
        if !KEPT.contains(&name.as_str()) {
            module.exports.delete(id);
        }
    }
    for due in KEPT {
        let there = module.exports.iter().any(|export| export.name == due);
        ensure!(there, "`{input}` does not export `{due}`");
    }
    passes::gc::run(&mut module);
    module.emit_wasm_file(&output)
}
