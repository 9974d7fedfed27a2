//! The SDK's contexts: which role a root has by `plugin_root_id`, and each callback handed on to it.

use std::cell::{Cell, RefCell};

use ombre_policy::switches::Switches;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::{BufferType, MapType};

use crate::config::{ConfigError, PollerConfig, WorkerConfig};
use crate::host::wasm::Envoy;
use crate::poller::{Identity, Poller};
use crate::stream::{self, Flow};
use crate::switches;
use crate::worker::Worker;

const POLLER: &[u8] = b"poller";

thread_local! {
    /// Whether this VM holds the poller: then it is the main thread's, and its workers serve nobody.
    static POLLER_HERE: Cell<bool> = const { Cell::new(false) };
    /// The worker of this VM. It has several roots where listeners configure the filter differently,
    /// and after a configuration was replaced: the build leaves out the callbacks by which Envoy tells
    /// that a root has ended, since it would make them for every request too.
    static WORKER: RefCell<Option<Worker<Envoy>>> = const { RefCell::new(None) };
}

/// A root context, and the role it was configured for.
pub(crate) struct Root {
    id: u32,
    role: Role,
}

enum Role {
    Unconfigured,
    Worker,
    Poller(Box<Poller<Envoy>>),
}

impl Root {
    /// The root context with this number.
    pub(crate) const fn new(id: u32) -> Self {
        Self {
            id,
            role: Role::Unconfigured,
        }
    }
}

impl Role {
    fn configured() -> Result<Self, ConfigError> {
        let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX);
        let configuration = configuration.ok().flatten().unwrap_or_default();
        let switches = switches::in_force();
        if property(&["plugin_root_id"]) == POLLER {
            let config = PollerConfig::parse(&configuration)?;
            POLLER_HERE.set(true);
            return Ok(Self::Poller(Box::new(Poller::new(
                Envoy,
                config,
                identity(&switches),
            ))));
        }
        let config = WorkerConfig::parse(&configuration)?;
        WORKER.with_borrow_mut(|worker| {
            let worker = worker.get_or_insert_with(|| Worker::new(Envoy, switches));
            match config {
                WorkerConfig::Documents(joined) => worker.on_documents(joined)?,
                WorkerConfig::Poller => worker.on_configure(),
            }
            Ok(Self::Worker)
        })
    }
}

/// Lets the worker act, if there is one. Callbacks do not overlap, so it is always free; if it were
/// not, leaving the callback out is better than the end of the VM.
fn with_worker<T>(act: impl FnOnce(&mut Worker<Envoy>) -> T) -> Option<T> {
    WORKER.with(|worker| worker.try_borrow_mut().ok()?.as_mut().map(act))
}

/// Decides the request that the host is at; without a worker it passes.
pub(crate) fn on_request_headers() -> Flow {
    with_worker(stream::on_request_headers).unwrap_or(Flow::Continue)
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, size: usize, _: usize) {
        let Role::Poller(poller) = &mut self.role else {
            return;
        };
        poller.on_response(token, &status(headers), || {
            let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size);
            body.ok().flatten().unwrap_or_default()
        });
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match Role::configured() {
            Ok(role) => self.role = role,
            Err(error) => {
                log::error!("{error}");
                return false;
            }
        }
        true
    }

    fn on_tick(&mut self) {
        match &mut self.role {
            Role::Poller(poller) => poller.on_tick(),
            Role::Worker => {
                with_worker(|worker| worker.on_tick(self.id, POLLER_HERE.get()));
            }
            Role::Unconfigured => {}
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        with_worker(|worker| worker.on_wake(queue));
    }
}

/// The status of the answer that is there. A call that broke off, also in the midst of an answer, has no
/// headers, and the SDK panics where it is asked for one of them.
fn status(headers: usize) -> Vec<u8> {
    if headers == 0 {
        return Vec::new();
    }
    let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
    status.ok().flatten().unwrap_or_default()
}

fn identity(switches: &Switches) -> Identity {
    let node = String::from_utf8_lossy(&property(&["xds", "node", "id"])).into_owned();
    Identity {
        node,
        switches: switches.describe(),
    }
}

fn property(path: &[&str]) -> Vec<u8> {
    hostcalls::get_property(path.to_vec())
        .ok()
        .flatten()
        .unwrap_or_default()
}
