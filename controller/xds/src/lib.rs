//! ombre's xDS server: the protocol as a pure state machine, and the gRPC services around it.

pub mod message;
pub mod session;
pub mod snapshot;
