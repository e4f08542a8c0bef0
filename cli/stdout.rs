//! Standard output: the data that commands print.
//!
//! Takes text or bytes and writes them through a buffer. A closed pipe ends the command quietly,
//! any other error of the stream is a failed job. Nothing else in the room writes there.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};

use crate::error::{Failure, said};

/// Prints text, without a line break of its own.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    write(|out| write!(out, "{text}"))
}

/// Hands a buffered standard output to `print`, and flushes it.
pub(crate) fn write(print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    check(print(&mut out).and_then(|()| out.flush()))
}

/// What a command ends with that wrote to standard output.
pub(crate) fn check(written: io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::closed_pipe(),
        // The kinds are the system's, and open.
        _ => Failure::job(format!("standard output: {}", said(error))),
    })
}
