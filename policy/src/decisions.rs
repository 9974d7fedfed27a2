//! Decisions: what the filters are told between two policies. By number in the plan, for the
//! filter; `named` is the form by name, for people and the store, and `released` what releases decided.

#[cfg(feature = "load")]
mod named;
#[cfg(feature = "load")]
mod released;

use serde::{Deserialize, Serialize};

use crate::document::DocumentError;
#[cfg(feature = "load")]
pub use named::{Decisions, Frozen, ServiceDecisions};
#[cfg(feature = "load")]
pub use released::{MadeFor, Released, ReleasedService};

/// The decisions for one plan, one entry for each of its services; missing entries decide nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionTable {
    services: Vec<ServiceDecision>,
}

/// What is decided for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceDecision {
    /// The candidate's share in slots, instead of the policy's.
    pub(crate) weight: Option<u32>,
    /// Degraded version and the version that takes its requests.
    pub(crate) degraded: Vec<(u8, u8)>,
    /// Versions whose writes are refused, with the seconds after which to try again.
    pub(crate) frozen: Vec<(u8, u32)>,
    /// Disabled routes by number, ascending.
    pub(crate) disabled_routes: Vec<u32>,
}

static NOTHING: ServiceDecision = ServiceDecision {
    weight: None,
    degraded: Vec::new(),
    frozen: Vec::new(),
    disabled_routes: Vec::new(),
};

impl DecisionTable {
    /// The body of a decisions document.
    pub fn encode(&self) -> Vec<u8> {
        // Writing plain data to memory cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads the body of a decisions document.
    ///
    /// # Errors
    /// When the bytes are not decisions of this build.
    pub fn decode(body: &[u8]) -> Result<Self, DocumentError> {
        postcard::from_bytes(body).map_err(|_| DocumentError::Body)
    }

    pub(crate) fn service(&self, number: u32) -> &ServiceDecision {
        let at = usize::try_from(number).ok();
        at.and_then(|at| self.services.get(at)).unwrap_or(&NOTHING)
    }
}

impl ServiceDecision {
    /// The version that takes the requests of a degraded one.
    pub(crate) fn fallback(&self, version: u8) -> Option<u8> {
        self.degraded
            .iter()
            .find(|(of, _)| *of == version)
            .map(|(_, fallback)| *fallback)
    }

    /// Seconds after which writes to a frozen version may be tried again.
    pub(crate) fn frozen(&self, version: u8) -> Option<u32> {
        self.frozen
            .iter()
            .find(|(of, _)| *of == version)
            .map(|(_, seconds)| *seconds)
    }

    pub(crate) fn disables(&self, route: u32) -> bool {
        self.disabled_routes.binary_search(&route).is_ok()
    }
}
