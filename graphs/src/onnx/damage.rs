//! Files that do not decode: whether the end is missing, and at which byte they stop being a model.
//!
//! Takes the bytes of such a file, returns the error. It knows the fields of a model and of its
//! graph, and leaves the messages within them to the decoder.

use std::ops::Range;

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::ImportError;
use super::proto::{GraphProto, ModelProto};

/// The field of a model that holds the graph.
const GRAPH: u64 = 7;

/// What protocol buffers call a varint, and bytes after their length.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;

/// The numbers and wire types of the fields of `ModelProto` in onnx.proto.
const MODEL_FIELDS: &[(u64, u64)] = &[
    (1, VARINT),
    (2, LENGTH),
    (3, LENGTH),
    (4, LENGTH),
    (5, VARINT),
    (6, LENGTH),
    (GRAPH, LENGTH),
    (8, LENGTH),
    (14, LENGTH),
    (20, LENGTH),
    (25, LENGTH),
    (26, LENGTH),
];

/// The same of `GraphProto`.
const GRAPH_FIELDS: &[(u64, u64)] = &[
    (1, LENGTH),
    (2, LENGTH),
    (5, LENGTH),
    (10, LENGTH),
    (11, LENGTH),
    (12, LENGTH),
    (13, LENGTH),
    (14, LENGTH),
    (15, LENGTH),
    (16, LENGTH),
];

/// Models are protocol buffers, which have at most this many bytes.
const BYTES_MAX: usize = 1 << 31;

/// What is wrong with a message first.
enum Fault {
    /// It ends before this byte, up to which its last field goes.
    Cut(usize),
    /// Nothing that it can hold begins at this byte.
    NoField(usize),
    /// The field of this number that begins at `at` does not decode.
    Field {
        number: u64,
        at: usize,
        content: Range<usize>,
    },
}

/// The error for the file at `path`, whose bytes the decoder refused.
pub(super) fn described(path: &str, bytes: &Bytes, refused: &DecodeError) -> ImportError {
    let whole = 0..bytes.len();
    let fault = match first::<ModelProto>(bytes, whole, MODEL_FIELDS) {
        Some(Fault::Cut(end)) if end <= BYTES_MAX => {
            return ImportError::Incomplete {
                path: path.to_owned(),
                found: bytes.len(),
                wanted: end,
            };
        }
        Some(Fault::Field {
            number: GRAPH,
            at,
            content,
        }) => {
            let inner = first::<GraphProto>(bytes, content.clone(), GRAPH_FIELDS);
            inner.unwrap_or(Fault::Field {
                number: GRAPH,
                at,
                content,
            })
        }
        Some(fault) => fault,
        None => Fault::NoField(0),
    };
    let reason = match fault {
        Fault::NoField(at) => format!("expected a field of an ONNX message at byte {at}"),
        Fault::Cut(end) => format!("a field goes on to byte {end}, after the end of what holds it"),
        Fault::Field { at, .. } => {
            let text = refused.to_string();
            let (_, what) = text.split_once(": ").unwrap_or(("", &text));
            format!("the field at byte {at} is damaged: {what}")
        }
    };
    ImportError::Format {
        path: path.to_owned(),
        reason,
    }
}

/// The first fault of the message `M` at `range`; a message can be decoded field by field.
fn first<M: Message + Default>(
    bytes: &Bytes,
    range: Range<usize>,
    fields: &[(u64, u64)],
) -> Option<Fault> {
    let mut at = range.start;
    while at < range.end {
        let (number, content) = match field(bytes, at..range.end, fields) {
            Ok(found) => found,
            Err(fault) => return Some(fault),
        };
        let end = content.end;
        if M::decode(bytes.slice(at..end)).is_err() {
            return Some(Fault::Field {
                number,
                at,
                content,
            });
        }
        at = end;
    }
    None
}

/// The number of the field at the begin of `range`, and where its content is.
fn field(
    bytes: &[u8],
    range: Range<usize>,
    fields: &[(u64, u64)],
) -> Result<(u64, Range<usize>), Fault> {
    let no_field = || Fault::NoField(range.start);
    let (tag, after) = varint(bytes, range.clone()).ok_or_else(no_field)??;
    let (number, wire) = (tag >> 3, tag & 7);
    if !fields.contains(&(number, wire)) {
        return Err(no_field());
    }
    let (value, start) = varint(bytes, after..range.end).ok_or_else(no_field)??;
    let length = if wire == LENGTH { value } else { 0 };
    let end = usize::try_from(length).map_or(usize::MAX, |length| start.saturating_add(length));
    match end <= range.end {
        true if wire == LENGTH => Ok((number, start..end)),
        true => Ok((number, after..start)),
        false => Err(Fault::Cut(end)),
    }
}

/// The number at the begin of `range` and the byte after it; `None` if it is too long for one.
fn varint(bytes: &[u8], range: Range<usize>) -> Option<Result<(u64, usize), Fault>> {
    let mut value = 0;
    for place in 0..10 {
        let at = range.start + place;
        if at >= range.end {
            return Some(Err(Fault::Cut(at + 1)));
        }
        value |= u64::from(bytes[at] & 127) << (7 * place);
        if bytes[at] < 128 {
            return Some(Ok((value, at + 1)));
        }
    }
    None
}
