//! Elements on their own: pointwise regions, copies that change an order, rows of a table, and
//! what is rather right than fast.
//!
//! Takes a program whose block has no product and no row operator, or one of attention in
//! training, gives the kernel in which each invocation computes one element, or one quad of
//! columns.

use compiler::kernel::{Binary, Builder, Builtin, Value};
use compiler::region::Region;
use compiler::tile::{BlockProgram, OutputViews, Step};

use super::address::{At, Width};
use super::attention::Attention;
use super::epilogue::{self, Epilogue};
use crate::gpu::expand::expansion::{Expansion, Refusal};
use crate::gpu::expand::quads;

/// Invocations of a workgroup.
const INVOCATIONS: u32 = 256;

/// The rows of a table and what names them, as views of the program.
#[derive(Clone, Copy)]
struct Table {
    table: usize,
    indices: usize,
}

/// Expands a program without an anchor, or one that gathers.
///
/// # Errors
/// When there are more elements than a grid has invocations.
pub(crate) fn expand(x: &mut Expansion<'_>, program: &BlockProgram) -> Result<(), Refusal> {
    let table = program.steps().find_map(|step| {
        let Step::Gather { table, indices, .. } = step else {
            return None;
        };
        let (table, indices) = (*table, *indices);
        Some(Table { table, indices })
    });
    let region = x.region;
    let attention = Attention::of(region, program);
    let widest = lanes(x, region, &program.outputs);
    let columns = program.columns.div_ceil(widest);
    let places = program.batch * program.rows * columns;
    x.begin_list(program, INVOCATIONS, places)?;
    let epilogues = epilogue::all(region, &program.outputs, &x.arguments);
    let b = &mut x.b;
    let place = linear(b, INVOCATIONS, x.groups);
    let arguments = &x.arguments;
    let exists = b.below(place, places as i32);
    b.when(exists, |b| {
        let column = b.rem(place, columns as i32);
        let rest = b.div(place, columns as i32);
        let row = b.rem(rest, program.rows as i32);
        let batch = b.div(rest, program.rows as i32);
        let zero = b.i32(0);
        let column = b.times(column, widest as i32);
        let at = At {
            batch,
            plane: zero,
            row,
            column,
        };
        for epilogue in &epilogues {
            let steps = match epilogue.width {
                Width::One => widest,
                Width::Quad(_) => 1,
            };
            for step in 0..steps {
                let column = b.plus(at.column, step as i32);
                let at = At { column, ..at };
                let mut anchor = |b: &mut Builder, _: usize| {
                    if let Some(attention) = &attention {
                        return attention.elements(b, arguments, at, epilogue.width);
                    }
                    let table = table.expect("only a gather has another anchor");
                    named(b, arguments, program, (table, at), epilogue)
                };
                let none = vec![None; epilogue.output.nodes.len()];
                let value = epilogue.compute(b, arguments, at, &none, &mut anchor);
                epilogue.store(b, arguments, at, value);
            }
        }
    });
    Ok(())
}

/// Columns of one invocation: four where every output is computed in quads.
fn lanes(x: &Expansion<'_>, region: &Region, views: &[OutputViews]) -> usize {
    let mut outputs = region.outputs.iter().zip(views);
    let quads = |(output, views)| quads::is_in_quads(region, output, views, x.regions);
    match outputs.all(quads) {
        true => 4,
        false => 1,
    }
}

/// The element of the table in the row that an index names, counted from the end where negative.
fn named(
    b: &mut Builder,
    arguments: &super::address::Arguments<'_>,
    program: &BlockProgram,
    (table, at): (Table, At),
    epilogue: &Epilogue<'_>,
) -> Value {
    let zero = b.i32(0);
    let indices = &program.views[table.indices];
    let index = arguments.read(b, indices, At { column: zero, ..at }, Width::One, None);
    let shown = &program.views[table.table];
    let rows: usize = shown.rows().iter().product();
    let from_end = b.plus(index, rows as i32);
    let negative = b.binary(Binary::Less, index, zero);
    let row = b.select(negative, from_end, index);
    // What names no row is a fault of the data, which a kernel cannot report: it stays within.
    let last = b.i32(rows as i32 - 1);
    let row = b.binary(Binary::Min, row, last);
    let row = b.binary(Binary::Max, row, zero);
    let at = At { row, ..at };
    arguments.read_lanes(b, shown, at, epilogue.width)
}

/// The number of an invocation in the whole grid.
pub(crate) fn linear(b: &mut Builder, invocations: u32, groups: [u32; 3]) -> Value {
    let [x, y] = [0, 1].map(|axis| b.builtin(Builtin::Group(axis)));
    let line = b.times(y, groups[0] as i32);
    let group = b.add(line, x);
    let first = b.times(group, invocations as i32);
    let local = b.builtin(Builtin::Local);
    b.add(first, local)
}
