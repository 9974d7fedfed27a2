//! ombre inside Envoy: translates proxy-wasm callbacks into `ombre_policy` calls and performs what
//! comes back. One module, two roles by `root_id`: `poller`, one per Envoy, fetches documents from
//! the controller; every other root is a worker that holds them and decides requests.
//! Everything but the host's edge compiles and is tested natively.

pub mod config;
pub mod host;
pub mod metrics;
pub mod poller;
pub mod registry;
pub mod shelf;
pub mod stream;
pub mod switches;
pub mod worker;

#[cfg(target_arch = "wasm32")]
mod root;

#[cfg(target_arch = "wasm32")]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|id| Box::new(super::root::Root::new(id)));
    }}
}
