//! The harness of the end-to-end tests, the benchmark and the demo: it starts a real Envoy,
//! the built controller and demo upstreams, and asks them what a client and an operator ask.

pub mod authority;
pub mod binaries;
pub mod client;
pub mod controller;
pub mod demo;
pub mod envoy;
pub mod feed;
pub mod fleet;
pub mod forwarder;
pub mod http;
pub mod load;
pub mod poll;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod release;
pub mod silent;
pub mod stack;
pub mod upstream;
