//! ombre's xDS server: the protocol as a pure state machine, the gRPC services around it, and the
//! resources that a policy means.

pub mod archive;
mod line;
pub mod message;
pub mod node;
pub mod registry;
pub mod resources;
pub mod server;
pub mod session;
pub mod snapshot;
