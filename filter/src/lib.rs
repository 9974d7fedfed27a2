//! ombre inside Envoy.
