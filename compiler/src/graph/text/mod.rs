//! The text form of graphs: complete, so that printing, parsing and printing again is identity.
//!
//! Takes a [`Module`](crate::graph::Module) and gives text, and back. Artifacts store graphs in
//! it, so the parser takes hostile input: it neither panics, nor recurses deeper than a limit,
//! nor allocates more than a multiple of the text. What it reads is built by
//! [`Builder`](crate::graph::Builder) and so is well typed; the rest is for
//! [`crate::graph::verify`].
//!
//! ```text
//! module  = func*
//! func    = "func" name "{" value* return* "}"
//! value   = "%"N "=" ("input" | "weight" | "state") string ":" type ["@" origin]
//!         | "%"N "=" op "(" "%"M, … ")" ["{" name "=" attribute, … "}"] [":" type] ["@" origin]
//! return  = "return" string "%"N
//! type    = dtype "[" extent, … "]"
//! extent  = ["-"] term (("+" | "-") term)*      term = factor ("*" factor)*
//! factor  = (integer | symbol | "(" extent ")") ("/" integer)*
//! tensor  = type ("[" element, … "]" | "splat" element | "hex" string)
//! ```
//! Values count from 0 in order. A type that is written must be the inferred one. Symbols and
//! names that are not identifiers are quoted; `#` begins a comment.

pub(crate) mod attribute;
pub(crate) mod cursor;
mod error;
mod extent;
mod parse;
mod print;
pub(crate) mod tensor;

pub use error::{ParseError, ParseFault};
pub use parse::parse;
pub(crate) use parse::{attributes, op};
pub use print::{print, print_func};
pub(crate) use print::{print_op, print_tensor};
