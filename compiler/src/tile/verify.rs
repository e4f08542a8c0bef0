//! The rules of block programs, numbered in the card of [`crate::tile`].
//!
//! Takes a program, gives the first rule that it breaks. What passes here a backend may trust.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::region::RegionId;
use crate::tile::{BlockProgram, Origin, Scope, Step, Tile, TileId};

/// A rule that a program breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{rule}: {region} {program}: found {found}, wanted {wanted}")]
pub struct TileError {
    /// The rule's number.
    pub rule: &'static str,
    /// The region.
    pub region: RegionId,
    /// The program.
    pub program: &'static str,
    /// What was found.
    pub found: String,
    /// What was wanted.
    pub wanted: &'static str,
}

impl BlockProgram {
    /// Checks all rules.
    ///
    /// # Errors
    /// With the first rule that is broken.
    pub fn verify(&self) -> Result<(), TileError> {
        let mut state = State {
            program: self,
            written: BTreeSet::new(),
            loops: Vec::new(),
            stored: false,
        };
        state.steps(&self.body)?;
        if !state.stored {
            return Err(state.error("T6", "no store", "a store at the end"));
        }
        Ok(())
    }
}

struct State<'a> {
    program: &'a BlockProgram,
    written: BTreeSet<TileId>,
    loops: Vec<Origin>,
    stored: bool,
}

impl<'a> State<'a> {
    fn error(&self, rule: &'static str, found: impl ToString, wanted: &'static str) -> TileError {
        TileError {
            rule,
            region: self.program.region,
            program: self.program.program,
            found: found.to_string(),
            wanted,
        }
    }

    fn require(
        &self,
        holds: bool,
        rule: &'static str,
        found: impl ToString,
        wanted: &'static str,
    ) -> Result<(), TileError> {
        match holds {
            true => Ok(()),
            false => Err(self.error(rule, found, wanted)),
        }
    }

    fn tile(&self, tile: TileId) -> Result<&'a Tile, TileError> {
        let found = self.program.tiles.get(tile.0 as usize);
        found.ok_or_else(|| self.error("T1", format!("{tile:?}"), "a tile of the program"))
    }

    fn view(&self, view: usize) -> Result<(), TileError> {
        match self.program.views.get(view) {
            Some(_) => Ok(()),
            None => Err(self.error("T1", format!("v{view}"), "a view of the program")),
        }
    }

    fn read(&self, tile: TileId) -> Result<&'a Tile, TileError> {
        let data = self.tile(tile)?;
        match self.written.contains(&tile) {
            true => Ok(data),
            false => Err(self.error("T4", data.name, "a tile that was written")),
        }
    }

    fn scoped(&self, tile: TileId, scope: Scope) -> Result<(), TileError> {
        let data = self.tile(tile)?;
        self.require(
            data.scope == scope,
            "T3",
            data.name,
            "copies shared, accumulators in fragments",
        )
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), TileError> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), TileError> {
        match step {
            Step::Zero { tile } => {
                self.scoped(*tile, Scope::Fragment)?;
                self.written.insert(*tile);
            }
            Step::Copy { tile, view, .. } => {
                self.view(*view)?;
                self.scoped(*tile, Scope::Shared)?;
                let (data, view) = (self.tile(*tile)?, &self.program.views[*view]);
                if data.planes > 1 && view.planes().is_empty() {
                    return Err(self.error("T5", data.name, "a view with planes"));
                }
                self.written.insert(*tile);
            }
            Step::Mma { acc, left, right } => self.mma([*acc, *left, *right])?,
            Step::Online {
                scores, acc, mask, ..
            } => {
                self.scoped(*scores, Scope::Fragment)?;
                self.read(*scores)?;
                self.read(*acc)?;
                mask.iter().try_for_each(|mask| self.view(*mask))?;
            }
            Step::Normalize { acc } | Step::LogSum { acc } => {
                self.read(*acc)?;
            }
            Step::Weigh {
                scores,
                changes,
                log_sum,
                results,
                mask,
                ..
            } => {
                for tile in [scores, changes] {
                    self.scoped(*tile, Scope::Fragment)?;
                }
                let (weights, own) = (self.read(*scores)?, self.read(*changes)?);
                let agree = weights.rows == own.rows && weights.columns == own.columns;
                self.agree(agree, [weights, own])?;
                let views = [*log_sum, results[0], results[1]].into_iter().chain(*mask);
                views.into_iter().try_for_each(|view| self.view(view))?;
            }
            Step::Transpose { from, to } => {
                self.scoped(*to, Scope::Fragment)?;
                let (read, made) = (self.read(*from)?, self.tile(*to)?);
                let agree = read.rows == made.columns && read.columns == made.rows;
                self.agree(agree, [read, made])?;
                self.written.insert(*to);
            }
            Step::AddRows {
                acc, from, first, ..
            } => {
                self.scoped(*acc, Scope::Fragment)?;
                let (sum, own) = (self.read(*acc)?, self.read(*from)?);
                let agree = *first < sum.rows && own.columns <= sum.columns;
                self.agree(agree, [sum, own])?;
            }
            Step::Rows { from, to } => {
                let (from, made) = (self.read(*from)?, self.tile(*to)?);
                if from.rows != made.rows {
                    return Err(self.error("T2", made.rows, "as many rows as are read"));
                }
                self.written.insert(*to);
            }
            Step::Fold {
                acc,
                from,
                with,
                down,
            } => {
                self.scoped(*acc, Scope::Fragment)?;
                let (acc, part) = (self.read(*acc)?, self.read(*from)?);
                let fits = match down {
                    true => acc.rows == 1 && acc.columns == part.columns,
                    false => acc.rows == part.rows,
                };
                let factor = with.map(|with| self.read(with)).transpose()?;
                let extents = |tile: &Tile| [tile.planes, tile.rows, tile.columns];
                let agrees = factor.is_none_or(|with| extents(with) == extents(part));
                if !fits || !agrees {
                    let found = format!("{} of {}", acc.name, part.name);
                    return Err(self.error("T2", found, "parts of the rows that are folded"));
                }
            }
            Step::Gather {
                tile,
                table,
                indices,
            } => {
                self.view(*table)?;
                self.view(*indices)?;
                self.scoped(*tile, Scope::Shared)?;
                self.written.insert(*tile);
            }
            Step::Loop { over, body, .. } => {
                if self.loops.contains(over) {
                    return Err(self.error("T1", format!("{over:?}"), "one loop over an axis"));
                }
                self.loops.push(*over);
                self.steps(body)?;
                self.loops.pop();
            }
            Step::Store { tile, .. } => {
                tile.map(|tile| self.read(tile)).transpose()?;
                if self.program.outputs.is_empty() {
                    return Err(self.error("T6", "no output", "at least one output"));
                }
                self.stored = true;
            }
        }
        Ok(())
    }

    fn agree(&self, agree: bool, [first, second]: [&Tile; 2]) -> Result<(), TileError> {
        let found = format_args!("{} with {}", first.name, second.name);
        self.require(agree, "T2", found, "tiles that agree")
    }

    fn mma(&mut self, [acc, left, right]: [TileId; 3]) -> Result<(), TileError> {
        self.scoped(acc, Scope::Fragment)?;
        let (sum, a, b) = (self.read(acc)?, self.read(left)?, self.read(right)?);
        let planes = |tile: &Tile| tile.planes == 1 || tile.planes == sum.planes;
        let fits = a.columns == b.columns && a.rows == sum.rows && b.rows == sum.columns;
        let found = format_args!("{} += {} · {}ᵀ", sum.name, a.name, b.name);
        self.require(
            fits && planes(a) && planes(b),
            "T2",
            found,
            "factors that fit the accumulator",
        )
    }
}
