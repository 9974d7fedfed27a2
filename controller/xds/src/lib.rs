//! ombre's xDS server: the protocol as a pure state machine, and the gRPC services around it.

pub mod message;
pub mod node;
pub mod registry;
pub mod server;
pub mod session;
pub mod snapshot;
pub mod tls;
