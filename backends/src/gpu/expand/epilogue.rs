//! Epilogues: the pointwise graph of an output on elements that an invocation holds.
//!
//! Takes the elements of the anchor, gives what is stored, after it is stored. Which elements
//! those are, and whether they exist, the caller knows.

use compiler::kernel::{Builder, Value};
use compiler::region::{Node, Output, Region};
use compiler::tile::OutputViews;

use super::address::{Arguments, At, Width};
use super::functions;
use super::quads::{self, Along};

/// One output of a region.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) output: &'a Output,
    pub(crate) views: &'a OutputViews,
    /// Whether it computes aligned quads of columns.
    pub(crate) width: Width,
}

/// The outputs of a region with the width in which each is computed.
pub(crate) fn all<'a>(
    region: &'a Region,
    views: &'a [OutputViews],
    arguments: &Arguments<'_>,
) -> Vec<Epilogue<'a>> {
    let outputs = region.outputs.iter().zip(views);
    let epilogue = |(output, views): (&'a Output, &'a OutputViews)| {
        let quads = quads::is_in_quads(region, output, views, arguments.regions);
        Epilogue {
            output,
            views,
            width: match quads {
                true => Width::Quad(Along::Columns),
                false => Width::One,
            },
        }
    };
    outputs.map(epilogue).collect()
}

impl Epilogue<'_> {
    /// The nodes that no row changes, at a place of any row: what they are worth.
    pub(crate) fn fixed(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        at: At,
    ) -> Vec<Option<Value>> {
        let lanes = self.width.lanes();
        let mut values: Vec<Option<Value>> = Vec::with_capacity(self.output.nodes.len());
        for (number, node) in self.output.nodes.iter().enumerate() {
            let value = match node {
                Node::Anchor(_) => None,
                Node::Read(_) => {
                    let view = self.views.reads[number].as_ref();
                    let view = view.filter(|view| !changes_by_row(view));
                    view.map(|view| self.read(b, arguments, view, at))
                }
                Node::Scalar(tensor) => Some(functions::number(b, functions::first(tensor), lanes)),
                Node::Apply(op, operands) => {
                    let operands = operands.iter().map(|&operand| values[operand]);
                    let operands: Option<Vec<Value>> = operands.collect();
                    operands.map(|operands| functions::apply(b, op, &operands))
                }
            };
            values.push(value);
        }
        values
    }

    /// What is stored at a place, of which some nodes are known: `anchor` gives the anchor's
    /// elements of a plane, as many as the width has lanes.
    pub(crate) fn compute(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        at: At,
        fixed: &[Option<Value>],
        anchor: &mut dyn FnMut(&mut Builder, usize) -> Value,
    ) -> Value {
        let lanes = self.width.lanes();
        let mut values: Vec<Value> = Vec::with_capacity(self.output.nodes.len());
        for (number, node) in self.output.nodes.iter().enumerate() {
            if let Some(value) = fixed[number] {
                values.push(value);
                continue;
            }
            let value = match node {
                Node::Anchor(_) => {
                    let plane = self.views.planes[number].expect("the anchor is read at a plane");
                    anchor(b, plane)
                }
                Node::Read(_) => {
                    let view = self.views.reads[number].as_ref();
                    let view = view.expect("an operand is read through a view");
                    self.read(b, arguments, view, at)
                }
                Node::Scalar(tensor) => functions::number(b, functions::first(tensor), lanes),
                Node::Apply(op, operands) => {
                    let operands: Vec<Value> = operands.iter().map(|&o| values[o]).collect();
                    functions::apply(b, op, &operands)
                }
            };
            values.push(value);
        }
        values[values.len() - 1]
    }

    fn read(
        &self,
        b: &mut Builder,
        arguments: &Arguments<'_>,
        view: &compiler::tile::View,
        at: At,
    ) -> Value {
        if self.width == Width::One || arguments.shows_quads(view, Along::Columns) {
            return arguments.read(b, view, at, self.width, None);
        }
        // What does not change along the columns is read once.
        let last = view.access.shape.len() - 1;
        let fixed = view.access.pieces.iter().all(|piece| {
            let bounds = piece.bounds.iter().map(|bound| &bound.index);
            !piece
                .index
                .iter()
                .chain(bounds)
                .any(|index| index.uses(last))
        });
        if fixed {
            let value = arguments.read(b, view, at, Width::One, None);
            return b.splat(value, 4);
        }
        arguments.read_lanes(b, view, at, self.width)
    }

    /// Stores what was computed.
    pub(crate) fn store(&self, b: &mut Builder, arguments: &Arguments<'_>, at: At, value: Value) {
        arguments.store(b, &self.views.store, at, self.width, value);
    }
}

/// Whether a view shows something else in another row.
fn changes_by_row(view: &compiler::tile::View) -> bool {
    let columns = view.access.shape.len() - view.roles.columns;
    let rows = columns - view.roles.rows..columns;
    view.access.pieces.iter().any(|piece| {
        let bounds = piece.bounds.iter().map(|bound| &bound.index);
        let mut walks = piece.index.iter().chain(bounds);
        walks.any(|index| rows.clone().any(|axis| index.uses(axis)))
    })
}
