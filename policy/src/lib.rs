//! The language and the mathematics of ombre, shared by the filter and the controller.
//! Pure: no clock, no socket, no file, no log. Time and randomness come in as arguments.

pub mod accept;
pub mod baggage;
pub mod color;
pub mod cookie;
pub mod decisions;
pub mod document;
pub mod duration;
#[cfg(feature = "load")]
pub mod explain;
pub mod hash;
pub mod headers;
pub mod in_force;
#[cfg(feature = "load")]
pub mod load;
pub mod pattern;
pub mod plan;
#[cfg(feature = "load")]
pub mod policy;
#[cfg(feature = "load")]
pub mod problem;
pub mod query;
#[cfg(feature = "load")]
pub mod raw;
pub mod release;
mod request;
pub mod slots;
pub mod switches;
#[cfg(feature = "load")]
pub mod template;
pub mod terms;
pub mod verdict;
pub mod version;
