//! What a command answers with. A reader that has heard enough (`ombre explain ... | head`) is no
//! error, where `println!` would panic.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints one answer and a line break.
///
/// # Errors
/// When standard output cannot be written to for another reason than that nobody reads it.
pub fn say(answer: impl Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{answer}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
