//! ombre beside Envoy.
