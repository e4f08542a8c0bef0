//! The text form of regions, and the key under which equal ones are known.
//!
//! Takes regions, gives text in which everything stands that a kernel depends on. The key is
//! that text without the names of buffers and places: regions that only differ in them share
//! kernels and tuning results.

use std::fmt::{self, Write};

use crate::graph::text::{print_op, print_tensor};
use crate::region::{
    Access, Anchor, Bound, Buffer, BufferData, Content, Index, Node, Output, Region, RegionId,
    Regions,
};
use crate::value::extents::Extents;
use crate::value::words::{is_identifier, write_quoted};

/// What a region computes, whatever its buffers are called; prints as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The canonical text: equal for equal keys, and only for them.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    /// 64 bits of FNV-1a (Fowler, Noll and Vo; the IETF draft by Eastlake, section 5).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        write!(f, "{:016x}", self.0.as_bytes().iter().fold(BASIS, step))
    }
}

impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("regions ")?;
        match is_identifier(&self.name) {
            true => f.write_str(&self.name)?,
            false => write_quoted(f, &self.name, '"')?,
        }
        f.write_str(" {\n")?;
        for (number, data) in self.buffers.iter().enumerate() {
            let what = match &data.content {
                Content::Computed => continue,
                Content::Constant(_) => "constant".to_owned(),
                Content::Param(param) => {
                    let mut text = format!("{} ", param.role);
                    write_quoted(&mut text, &param.name, '"')?;
                    text
                }
            };
            let buffer = Buffer(number as u32);
            writeln!(f, "  {buffer} = {what} : {}", typed(data))?;
        }
        for (id, region) in self.iter() {
            f.write_str(&self.print(id, region))?;
        }
        for joined in &self.joined {
            let parts: Vec<String> = joined.parts.iter().map(Buffer::to_string).collect();
            let data = self.buffer(joined.whole);
            writeln!(
                f,
                "  {} = joined {} : {}",
                joined.whole,
                parts.join(", "),
                typed(data)
            )?;
        }
        for (name, buffer) in &self.results {
            f.write_str("  return ")?;
            write_quoted(f, name, '"')?;
            writeln!(f, " {buffer}")?;
        }
        f.write_str("}\n")
    }
}

impl Regions {
    /// The text of one region.
    pub fn print(&self, id: RegionId, region: &Region) -> String {
        let mut out = format!("  {id} = ");
        self.write(&mut out, region, &|buffer| buffer);
        if !region.origin.is_empty() {
            let end = out.find('\n').unwrap_or(out.len());
            let mut origin = " @ ".to_owned();
            let _ = write_quoted(&mut origin, &region.origin, '"');
            out.insert_str(end, &origin);
        }
        out
    }

    /// The key of one region.
    pub fn key(&self, region: &Region) -> Key {
        let buffers = [region.reads(), region.stores()].concat();
        let rename = |buffer: Buffer| {
            let place = buffers.iter().position(|other| *other == buffer);
            Buffer(place.map_or(u32::MAX, |place| place as u32))
        };
        let mut out = String::new();
        for &buffer in &buffers {
            let _ = write!(out, "{} ", typed(self.buffer(buffer)));
        }
        self.write(&mut out, region, &rename);
        Key(out)
    }

    fn write(&self, out: &mut String, region: &Region, rename: &dyn Fn(Buffer) -> Buffer) {
        out.push_str(&heading(region));
        out.push('\n');
        for (number, access) in region.operands.iter().enumerate() {
            let _ = write!(out, "    x{number} = ");
            write_access(out, access, rename);
            out.push('\n');
        }
        for output in &region.outputs {
            self.write_output(out, output, rename);
        }
    }

    fn write_output(&self, out: &mut String, output: &Output, rename: &dyn Fn(Buffer) -> Buffer) {
        for (number, node) in output.nodes.iter().enumerate() {
            if let Node::Apply(op, operands) = node {
                let operands = operands.iter().map(|&operand| leaf(output, operand));
                let operands: Vec<String> = operands.collect();
                let _ = writeln!(
                    out,
                    "    n{number} = {}({})",
                    print_op(op),
                    operands.join(", ")
                );
            }
        }
        let _ = write!(out, "    {}", rename(output.buffer));
        write_walk(out, &output.store, &output.domain);
        let last = leaf(output, output.nodes.len() - 1);
        let _ = write!(out, " : {} = {last}", typed(self.buffer(output.buffer)));
        if output.store != Index::identity(&output.domain) {
            let _ = write!(out, " over {:?}", output.domain);
        }
        if let Some(moments) = output.moments {
            let _ = write!(out, " with moments {}", rename(moments));
        }
        out.push('\n');
    }
}

/// The anchor's class, operator and result.
fn heading(region: &Region) -> String {
    let class = region.anchor.class().name();
    let what = match &region.anchor {
        Anchor::Pointwise => return class.to_owned(),
        Anchor::Op { op, .. } => print_op(op),
        Anchor::Statistics { groups, epsilon } => {
            format!("statistics {{groups = {groups}, epsilon = {epsilon:?}}}")
        }
        Anchor::MergeMoments {
            groups,
            epsilon,
            count,
        } => {
            format!("merge_moments {{groups = {groups}, epsilon = {epsilon:?}, count = {count}}}")
        }
    };
    let operands: Vec<String> = (0..region.anchor_operands())
        .map(|x| format!("x{x}"))
        .collect();
    let ty = region
        .anchor_type()
        .map_or_else(String::new, |ty| format!(" : {ty}"));
    format!("{class} {what}({}){ty}", operands.join(", "))
}

pub(crate) fn write_access(out: &mut String, access: &Access, rename: &dyn Fn(Buffer) -> Buffer) {
    for (number, piece) in access.pieces.iter().enumerate() {
        let _ = write!(
            out,
            "{}{}",
            if number > 0 { " | " } else { "" },
            rename(piece.buffer)
        );
        write_walk(out, &piece.index, &access.shape);
        for (number, bound) in piece.bounds.iter().enumerate() {
            let word = if number > 0 { "and" } else { "where" };
            let Bound { index, start, end } = bound;
            let _ = write!(out, " {word} {start} <= {index} < {end}");
        }
    }
    if access.pieces.is_empty() {
        out.push_str("nothing");
    }
    if let Some(fill) = &access.fill {
        let _ = write!(out, " else {}", print_tensor(fill));
    }
    let Access { dtype, shape, .. } = access;
    let _ = write!(out, " : {dtype}{shape:?}");
}

/// The indices, unless they are those of the domain.
fn write_walk(out: &mut String, walk: &[Index], domain: &[usize]) {
    if walk != Index::identity(domain) {
        let list: Vec<String> = walk.iter().map(ToString::to_string).collect();
        let _ = write!(out, "[{}]", list.join(", "));
    }
}

/// A node as an operand.
fn leaf(output: &Output, node: usize) -> String {
    match &output.nodes[node] {
        Node::Read(operand) => format!("x{operand}"),
        Node::Scalar(tensor) => print_tensor(tensor),
        Node::Apply(..) => format!("n{node}"),
        Node::Anchor(index) => {
            let mut out = "anchor".to_owned();
            write_walk(&mut out, index, &output.domain);
            out
        }
    }
}

/// The element type and the extents, and the order in memory unless it is that of the axes.
fn typed(data: &BufferData) -> String {
    let Extents { dtype, shape } = &data.extents;
    match data.is_row_major() {
        true => format!("{dtype}{shape:?}"),
        false => format!("{dtype}{shape:?} order {:?}", data.order),
    }
}
