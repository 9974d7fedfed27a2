//! The language and the mathematics of ombre, shared by the filter and the controller.
//! Pure: no clock, no socket, no file, no log. Time and randomness come in as arguments.

pub mod accept;
pub mod baggage;
pub mod color;
pub mod cookie;
pub mod hash;
pub mod pattern;
pub mod query;
pub mod slots;
#[cfg(feature = "load")]
pub mod template;
pub mod version;
