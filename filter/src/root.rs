//! The SDK's contexts: which role a root has by `plugin_root_id`, and each callback handed on to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

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
    /// The workers of this VM, the newest last. There is more than one only where listeners configure
    /// the filter differently, or while a configuration is being replaced: Envoy makes the new root,
    /// and only then is done with the old one. INVARIANT: one whose configuration was refused is not here.
    static WORKERS: RefCell<Vec<Rc<RefCell<Worker<Envoy>>>>> = const { RefCell::new(Vec::new()) };
}

/// A root context in the role it was configured for.
pub(crate) enum Root {
    Unconfigured,
    Worker(Rc<RefCell<Worker<Envoy>>>),
    Poller(Box<Poller<Envoy>>),
}

impl Root {
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
        let worker = match WorkerConfig::parse(&configuration)? {
            WorkerConfig::Documents(joined) => Worker::with_documents(Envoy, switches, joined)?,
            WorkerConfig::Poller => {
                let mut worker = Worker::new(Envoy, switches);
                worker.on_configure();
                worker
            }
        };
        let worker = Rc::new(RefCell::new(worker));
        WORKERS.with_borrow_mut(|workers| workers.push(Rc::clone(&worker)));
        Ok(Self::Worker(worker))
    }

    /// The worker, if this is one. Callbacks do not overlap, so it is always free; if it were not,
    /// leaving the callback out is better than the end of the VM.
    fn with_worker(&self, act: impl FnOnce(&mut Worker<Envoy>)) {
        if let Self::Worker(worker) = self
            && let Ok(mut worker) = worker.try_borrow_mut()
        {
            act(&mut worker);
        }
    }
}

/// Decides the request that the host is at. All workers of a VM have the same documents, or the newest
/// has newer ones, so it does not matter whose it is; without any the request passes.
pub(crate) fn on_request_headers() -> Flow {
    WORKERS.with_borrow(
        |workers| match workers.last().map(|worker| worker.try_borrow_mut()) {
            Some(Ok(mut worker)) => stream::on_request_headers(&mut worker),
            Some(Err(_)) | None => Flow::Continue,
        },
    )
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _: usize, size: usize, _: usize) {
        let Self::Poller(poller) = self else {
            return;
        };
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
        let status = status.ok().flatten().unwrap_or_default();
        poller.on_response(token, &status, || {
            let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size);
            body.ok().flatten().unwrap_or_default()
        });
    }

    fn on_done(&mut self) -> bool {
        match self {
            Self::Poller(poller) => {
                POLLER_HERE.set(false);
                poller.on_done();
            }
            Self::Worker(done) => {
                WORKERS
                    .with_borrow_mut(|workers| workers.retain(|worker| !Rc::ptr_eq(worker, done)));
                self.with_worker(Worker::on_done);
            }
            Self::Unconfigured => {}
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        match Self::configured() {
            Ok(root) => *self = root,
            Err(error) => {
                log::error!("{error}");
                return false;
            }
        }
        true
    }

    fn on_tick(&mut self) {
        match self {
            Self::Poller(poller) => poller.on_tick(),
            _ => self.with_worker(|worker| worker.on_tick(POLLER_HERE.get())),
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        self.with_worker(|worker| worker.on_wake(queue));
    }
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
