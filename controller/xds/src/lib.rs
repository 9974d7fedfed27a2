//! ombre's xDS server: the protocol as a pure state machine, and the gRPC services around it.
