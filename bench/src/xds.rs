//! xDS, measured: from a push to Envoy's answer and to the traffic, and how a crowd of clients is served.

mod client;
pub(crate) mod crowd;
pub(crate) mod pushes;
mod versions;
