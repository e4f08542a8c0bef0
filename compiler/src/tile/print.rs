//! The text form of block programs: complete, so that [`super::parse`] reads it back.
//!
//! Takes a program, gives text: what it computes and its grid, the views of its operands and its
//! outputs, its tiles, and its steps. Views are printed as the access maps that they are.

use std::fmt::{self, Write};

use crate::region::{Buffer, write_access};
use crate::tile::{BlockProgram, Origin, OutputViews, Scope, Step, TileId, Transform, View};

impl fmt::Display for BlockProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, columns] = self.block;
        let grid = self.grid();
        writeln!(
            f,
            "{} {} : [{}, {}, {}] in blocks [{rows}, {columns}], grid {grid:?} {{",
            self.region, self.program, self.batch, self.rows, self.columns
        )?;
        for (number, view) in self.views.iter().enumerate() {
            writeln!(f, "  v{number} = {}", text(view))?;
        }
        for (number, output) in self.outputs.iter().enumerate() {
            write_output(f, number, output)?;
        }
        for tile in &self.tiles {
            let scope = match tile.scope {
                Scope::Shared => "shared",
                Scope::Fragment => "fragment",
            };
            let extents = [tile.planes, tile.rows, tile.columns];
            writeln!(f, "  {} : {scope} f32{extents:?}", tile.name)?;
        }
        self.write_steps(f, &self.body, 1)?;
        f.write_str("}\n")
    }
}

fn write_output(f: &mut fmt::Formatter<'_>, number: usize, output: &OutputViews) -> fmt::Result {
    let last = output.first_column + output.columns;
    writeln!(
        f,
        "  o{number} = columns {}..{last} {{",
        output.first_column
    )?;
    for (number, (plane, read)) in output.planes.iter().zip(&output.reads).enumerate() {
        match (plane, read) {
            (Some(plane), _) => writeln!(f, "    n{number} = plane {plane}")?,
            (None, Some(view)) => writeln!(f, "    n{number} = {}", text(view))?,
            (None, None) => writeln!(f, "    n{number} = computed")?,
        }
    }
    writeln!(f, "    store {}\n  }}", text(&output.store))
}

impl BlockProgram {
    fn write_steps(&self, f: &mut fmt::Formatter<'_>, steps: &[Step], depth: usize) -> fmt::Result {
        for step in steps {
            write!(f, "{:width$}", "", width = 2 * depth)?;
            self.write_step(f, step, depth)?;
        }
        Ok(())
    }

    fn write_step(&self, f: &mut fmt::Formatter<'_>, step: &Step, depth: usize) -> fmt::Result {
        let name = |tile: &TileId| self.tile(*tile).name;
        match step {
            Step::Zero { tile } => writeln!(f, "zero {}", name(tile)),
            Step::Copy {
                tile,
                view,
                rows,
                columns,
                transform,
            } => {
                let (rows, columns) = (origin(*rows), origin(*columns));
                write!(f, "{} = copy v{view}[{rows}, {columns}]", name(tile))?;
                suffix(f, *transform)
            }
            Step::Mma { acc, left, right } => {
                writeln!(f, "{} += {} · {}ᵀ", name(acc), name(left), name(right))
            }
            Step::Online {
                scores,
                acc,
                scale,
                causal,
                mask,
            } => {
                write!(f, "online {}, {} scale {scale:?}", name(scores), name(acc))?;
                masks(f, *causal, *mask)
            }
            Step::Normalize { acc } => writeln!(f, "normalize {}", name(acc)),
            Step::LogSum { acc } => writeln!(f, "logarithm {}", name(acc)),
            Step::Weigh {
                scores,
                changes,
                log_sum,
                results: [result, gradient],
                scale,
                causal,
                mask,
            } => {
                let (scores, changes) = (name(scores), name(changes));
                write!(f, "weigh {scores}, {changes} by v{log_sum}, ")?;
                write!(f, "v{result}, v{gradient} scale {scale:?}")?;
                masks(f, *causal, *mask)
            }
            Step::Transpose { from, to } => {
                writeln!(f, "{} = transpose {}", name(to), name(from))
            }
            Step::AddRows {
                acc,
                from,
                first,
                rows,
            } => {
                let rows = origin(*rows);
                writeln!(f, "{}[{first} + {rows}] += {}", name(acc), name(from))
            }
            Step::Rows { from, to } => writeln!(f, "{} = rows {}", name(to), name(from)),
            Step::Fold {
                acc,
                from,
                with,
                down,
            } => {
                write!(f, "fold {}, {}", name(acc), name(from))?;
                if let Some(with) = with {
                    write!(f, " · {}", name(with))?;
                }
                writeln!(f, "{}", if *down { " down" } else { "" })
            }
            Step::Gather {
                tile,
                table,
                indices,
            } => writeln!(f, "{} = gather v{table}[v{indices}]", name(tile)),
            Step::Loop {
                over,
                extent,
                step,
                stages,
                body,
            } => {
                let over = origin(*over);
                writeln!(f, "for {over} in 0..{extent} by {step}, stages {stages} {{")?;
                self.write_steps(f, body, depth + 1)?;
                writeln!(f, "{:width$}}}", "", width = 2 * depth)
            }
            Step::Store { tile, transform } => {
                write!(f, "store {}", tile.as_ref().map_or("epilogue", name))?;
                suffix(f, *transform)
            }
        }
    }
}

fn masks(f: &mut fmt::Formatter<'_>, causal: bool, mask: Option<usize>) -> fmt::Result {
    if causal {
        write!(f, " causal")?;
    }
    match mask {
        Some(view) => writeln!(f, " mask v{view}"),
        None => writeln!(f),
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Zero => "0",
        Origin::Rows => "row",
        Origin::Columns => "column",
        Origin::Depth => "k",
    }
}

fn suffix(f: &mut fmt::Formatter<'_>, transform: Option<Transform>) -> fmt::Result {
    match transform {
        None => writeln!(f),
        Some(Transform::WinogradInput(results)) => writeln!(f, " winograd_input {results}"),
        Some(Transform::WinogradWeight(results)) => writeln!(f, " winograd_weight {results}"),
        Some(Transform::WinogradOutput(results)) => writeln!(f, " winograd_output {results}"),
        Some(Transform::WinogradGradient(results)) => {
            writeln!(f, " winograd_gradient {results}")
        }
        Some(Transform::WinogradWeightGradient(results)) => {
            writeln!(f, " winograd_weight_gradient {results}")
        }
    }
}

fn text(view: &View) -> String {
    let mut out = String::new();
    write_access(&mut out, &view.access, &|buffer: Buffer| buffer);
    let roles = view.roles;
    let roles = [roles.batch, roles.planes, roles.rows, roles.columns];
    let _ = write!(out, " as {roles:?}");
    out
}
