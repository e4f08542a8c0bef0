//! Tiles as a processor holds them: which layout each has, and how many floats that takes.
//!
//! Takes a block program, gives a layout per tile. The left factor of a product lies in panels of
//! the register tile's rows, the right one in panels of its columns, an accumulator row by row.
//! What the online softmax works on lies across, queries along the lanes: maxima and sums then run
//! down the rows without leaving their lanes, and weights are a right factor as they lie. So does
//! what is made of them, up to sums that are stored as they are.

use compiler::tile::{BlockProgram, Origin, Step, TileId};

use super::kernel::machine::Machine;

/// How a tile lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Panels of rows, even in height, `[plane][panel][column][row]`.
    Left,
    /// Panels of rows as wide as the register tile has columns, the same order.
    Right,
    /// `[plane][row][column]`, rows padded to whole panels.
    Rows,
    /// Panels of rows along the lanes, `[panel][column][row]`.
    Across,
    /// `[row][column]`, rows right behind one another.
    Dense,
}

/// The layout of every tile.
pub(crate) fn layouts(program: &BlockProgram) -> Vec<Layout> {
    let mut layouts = vec![Layout::Rows; program.tiles.len()];
    let mut across: Vec<TileId> = Vec::new();
    program.steps().for_each(|step| match step {
        Step::Online { scores, acc, .. } => across.extend([*scores, *acc]),
        Step::Weigh {
            scores, changes, ..
        } => across.extend([*scores, *changes]),
        Step::Transpose { to, .. } => across.push(*to),
        Step::Mma { acc, left, .. } if across.contains(left) => across.push(*acc),
        Step::AddRows { acc, .. } => layouts[acc.0 as usize] = Layout::Dense,
        Step::Zero { .. }
        | Step::Copy { .. }
        | Step::Mma { .. }
        | Step::Normalize { .. }
        | Step::LogSum { .. }
        | Step::Rows { .. }
        | Step::Fold { .. }
        | Step::Gather { .. }
        | Step::Loop { .. }
        | Step::Store { .. } => {}
    });
    for tile in &across {
        layouts[tile.0 as usize] = Layout::Across;
    }
    program.steps().for_each(|step| {
        let Step::Mma { acc, left, right } = step else {
            return;
        };
        // Across, the product is that of the transposed factors.
        let [first, second] = match across.contains(acc) {
            true => [Layout::Right, Layout::Left],
            false => [Layout::Left, Layout::Right],
        };
        if !across.contains(left) {
            layouts[left.0 as usize] = first;
        }
        layouts[right.0 as usize] = second;
    });
    layouts
}

/// For each factor that a loop over rows copies while a loop around it has the same rows in each
/// turn, how far its rows step and how many steps there are: copies of the first turn are kept.
pub(crate) fn kept(program: &BlockProgram, layouts: &[Layout]) -> Vec<Option<[usize; 2]>> {
    let mut kept = vec![None; layouts.len()];
    let mut inside = Vec::new();
    for step in &program.body {
        if let Step::Loop {
            over: Origin::Depth,
            body,
            ..
        } = step
        {
            inside.extend(body);
        }
    }
    for step in inside {
        let Step::Loop {
            over: Origin::Rows,
            extent,
            step,
            body,
            ..
        } = step
        else {
            continue;
        };
        for copy in body {
            if let Step::Copy {
                tile,
                rows,
                columns,
                transform: None,
                ..
            } = copy
                && ![rows, columns].contains(&&Origin::Depth)
                && layouts[tile.0 as usize] == Layout::Left
            {
                kept[tile.0 as usize] = Some([*step, extent.div_ceil((*step).max(1))]);
            }
        }
    }
    kept
}

/// Panels of at most `most` rows, as even as can be: their number and height.
pub(crate) fn panels(rows: usize, most: usize) -> [usize; 2] {
    let count = rows.div_ceil(most).max(1);
    [count, rows.div_ceil(count).max(1)]
}

/// Columns padded to whole panels.
pub(crate) fn padded(columns: usize, machine: Machine) -> usize {
    columns.next_multiple_of(machine.columns())
}

/// Floats that a tile takes at most.
pub(crate) fn floats(
    program: &BlockProgram,
    layout: Layout,
    tile: usize,
    machine: Machine,
) -> usize {
    let tile = &program.tiles[tile];
    let plane = match layout {
        // Even panels may be a row higher together than the rows are.
        Layout::Left => tile.rows.next_multiple_of(machine.rows()) * tile.columns,
        Layout::Right | Layout::Across => padded(tile.rows, machine) * tile.columns,
        Layout::Rows => tile.rows * padded(tile.columns, machine),
        Layout::Dense => tile.rows * tile.columns,
    };
    // Every tile starts at a line of its own.
    (tile.planes * plane).next_multiple_of(16)
}
