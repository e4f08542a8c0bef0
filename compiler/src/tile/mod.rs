//! The tile IR (level 2): programs that blocks of threads run over tiles.
//!
//! Takes regions and the numbers of a target, gives one [`BlockProgram`] per region: which block
//! computes which part of the result, the tiles it holds near, and steps over whole tiles. A
//! backend has one routine, or one expansion, per step. This is the only level that carries a
//! schedule; nothing in it names a machine, an instruction or a thread.
//!
//! A program is well formed when
//! * T1: steps name tiles and views that exist, and a loop lies in no other of the same name;
//! * T2: the tiles of an `mma` agree: planes in all three (a left or right tile of one plane serves
//!   all), rows of the left and columns of the right with the accumulator, depth of both; so do
//!   those of other steps on two tiles;
//! * T3: accumulators are fragments, and what is copied is shared;
//! * T4: a tile is written before it is read;
//! * T5: the views that a step copies have the roles that the tile's extents come from;
//! * T6: every output of the region is stored by the last step, and the grid covers it.

mod block_program;
mod choose;
mod contest;
mod contraction;
mod outputs;
mod parse;
mod print;
mod programs;
mod recut;
mod region_ref;
mod scores;
mod step;
mod tuning;
mod verify;
mod view;

pub use block_program::BlockProgram;
pub use choose::{Choice, LowerOptions, Tiled, candidates, lower};
pub use contest::{Contender, Contest, contests};
pub use outputs::OutputViews;
pub use parse::{TileParseError, parse};
pub use programs::names;
pub use recut::{Recut, recut};
pub use step::{Origin, Scope, Step, Tile, TileId, Transform};
pub use tuning::{Case, Measurement, Tuning};
pub use verify::TileError;
pub use view::{Roles, View};
