//! The language and the mathematics of ombre, shared by the filter and the controller.
//! Pure: no clock, no socket, no file, no log. Time and randomness come in as arguments.

pub mod document;
pub mod duration;
pub mod headers;
pub mod release;
