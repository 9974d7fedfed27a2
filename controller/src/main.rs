//! The program `ombre`.

fn main() {}
