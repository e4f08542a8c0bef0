//! The stages of a loop whose factors whole warps read: what is near, where, and how it comes there.
//!
//! Takes a program of a product or of attention, gives the memory of its factors. It expands no
//! step.

use std::collections::BTreeMap;

use compiler::kernel::{Builder, CHUNK_BYTES, Half, Scalar, SharedId, Type, Value};
use compiler::tile::{BlockProgram, Step, TileId};

use crate::gpu::expand::address::Arguments;
use crate::gpu::expand::flash_layout::FlashLayout;
use crate::gpu::expand::near::{CHUNK, Near};
use crate::gpu::expand::quads::Along;
use crate::gpu::expand::warp_layout;

/// A factor that whole warps read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    pub(super) near: Near,
    /// Whether it comes in chunks as they lie, not through registers.
    pub(super) chunked: bool,
}

/// The factors of a program, and the stages of its loop.
pub(super) struct Stages {
    factors: BTreeMap<TileId, Staged>,
    /// The memory that has them, as chunks.
    pub(super) chunks: SharedId,
    /// The same memory in halves of chunks, where something is stored to it.
    pub(super) halves: Option<SharedId>,
    /// Parts of the loop that are under way at a time.
    pub(super) count: usize,
    /// Chunks of one stage.
    pub(super) stride: usize,
    /// What is added to places of the stage at hand, if there are several.
    pub(super) at: Option<Value>,
}

impl Stages {
    /// As many stages as the program asks for, as its loop has parts, and as there is room for; one
    /// where a factor does not come in chunks.
    pub(super) fn of(
        b: &mut Builder,
        arguments: &Arguments<'_>,
        (program, half): (&BlockProgram, Half),
        flash: Option<FlashLayout>,
        shared_bytes_max: u32,
    ) -> Stages {
        let (once, each) = match flash {
            Some(flash) => (vec![flash.once()], flash.each().to_vec()),
            None => {
                let factors = warp_layout::factors(program).expect("it is a product");
                (Vec::new(), factors.to_vec())
            }
        };
        let end = |all: &[(TileId, Near)]| all.last().map_or(0, |(_, near)| near.end());
        let (first, stride) = (end(&once), end(&each) - end(&once));
        let staged = |(tile, near): &(TileId, Near)| {
            let staged = staged(arguments, (program, half), *tile, *near);
            (*tile, staged)
        };
        let factors: BTreeMap<TileId, Staged> = once.iter().chain(&each).map(staged).collect();
        let room = (shared_bytes_max / CHUNK_BYTES) as usize - first;
        let count = match each.iter().all(|(tile, _)| factors[tile].chunked) {
            true => under_way(program).min(room / stride).max(1),
            false => 1,
        };
        let chunk = Type::lanes(Scalar::U32, 4);
        let chunks = b.shared("near", chunk, (first + count * stride) as u32);
        let stores = factors.values().any(|staged| !staged.chunked);
        let half_chunk = Type::lanes(Scalar::U32, 2);
        Stages {
            factors,
            chunks,
            halves: stores.then(|| b.over(chunks, "near_halves", half_chunk)),
            count,
            stride,
            at: None,
        }
    }

    pub(super) fn factor(&self, tile: TileId) -> Option<Staged> {
        self.factors.get(&tile).copied()
    }

    /// Whether any factor comes in chunks.
    pub(super) fn are_copied(&self) -> bool {
        self.factors.values().any(|staged| staged.chunked)
    }
}

/// How a factor comes near: in chunks along its rows or along its depth where it shows them.
fn staged(
    arguments: &Arguments<'_>,
    (program, half): (&BlockProgram, Half),
    tile: TileId,
    near: Near,
) -> Staged {
    let own = program.tile(tile);
    let copied = program.steps().find_map(|step| match step {
        Step::Copy {
            tile: copied, view, ..
        } if *copied == tile => Some(*view),
        _ => None,
    });
    let view = &program.views[copied.expect("a factor is copied")];
    // A chunk is of one tile: parts begin at whole chunks.
    let fits = |along: Along| {
        let (part, whole) = match along {
            Along::Columns => (own.columns, view.columns().iter().product()),
            Along::Rows => (own.rows, view.rows().iter().product::<usize>()),
        };
        part.is_multiple_of(CHUNK) || part >= whole
    };
    let mut ways = [Along::Columns, Along::Rows].into_iter();
    let way = ways.find(|along| fits(*along) && arguments.shows_chunks(view, *along, half));
    Staged {
        near: Near {
            along: way.unwrap_or(near.along),
            ..near
        },
        chunked: way.is_some(),
    }
}

/// Parts of the loop that the program wants under way, of those that it has.
fn under_way(program: &BlockProgram) -> usize {
    let loops = program.body.iter().find_map(|step| match step {
        Step::Loop {
            extent,
            step,
            stages,
            ..
        } => Some((*stages).min(extent.div_ceil(*step))),
        _ => None,
    });
    loops.unwrap_or(1)
}
