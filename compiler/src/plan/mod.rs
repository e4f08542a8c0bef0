//! The plan of memory: which bytes of which slab hold which buffer, and when.
//!
//! Takes buffers with their sizes and lifetimes and the limits of a target, gives each buffer a
//! place: a window that the target can bind whole, within a slab that it can allocate. A buffer
//! that overwrites one that dies takes over its place. The same input gives the same plan. Weights
//! and states have plans of their own ([`weights`], [`states`]) since they outlive a run. It moves no data and knows no
//! machine but by [`Limits`].

use thiserror::Error;

use crate::region::{Buffer, Regions};

mod assign;
mod lifetimes;
mod recompute;
mod share;
mod states;

pub use lifetimes::{lifetimes, states, weights};
pub use recompute::{Recomputation, Recomputed, recompute};
pub use states::{Update, updates};

/// What a target allows, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Every window and every buffer starts at a multiple of this.
    pub alignment: u64,
    /// The most bytes that a kernel sees through one binding.
    pub binding_bytes_max: u64,
    /// The most bytes of one buffer.
    pub buffer_bytes_max: u64,
}

impl Limits {
    /// A target whose memory is one piece, like a processor's; aligned to its cache lines.
    pub const NONE: Limits = Limits {
        alignment: 64,
        binding_bytes_max: u64::MAX,
        buffer_bytes_max: u64::MAX,
    };

    /// What every WebGPU adapter grants: `minStorageBufferOffsetAlignment`,
    /// `maxStorageBufferBindingSize` and `maxBufferSize` of the table of limits in the
    /// [specification](https://www.w3.org/TR/webgpu/#limits).
    pub const WEBGPU: Limits = Limits {
        alignment: 256,
        binding_bytes_max: 128 << 20,
        buffer_bytes_max: 256 << 20,
    };

    /// The most bytes of a window that starts and ends at multiples of the alignment.
    fn window_bytes_max(&self) -> u64 {
        let bytes = self.binding_bytes_max.min(self.buffer_bytes_max);
        bytes - bytes % self.alignment
    }
}

/// A buffer that wants memory, from the time at which it is stored to its last use.
///
/// Inputs are there from time 0, and the region `r0` runs at time 1. What dies when a region runs is
/// still needed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// The buffer.
    pub buffer: Buffer,
    /// The class of the region that stores it or the kind of parameter, and where in the source
    /// model it comes from.
    pub origin: String,
    /// Its size.
    pub bytes: u64,
    /// When it is stored.
    pub birth: u32,
    /// When it is read last; [`END`] for what outlives the run.
    pub death: u32,
    /// Earlier buffers of the same size that it may overwrite if they die at its birth.
    pub overwrites: Vec<Buffer>,
}

/// The death of results and weights.
pub const END: u32 = u32::MAX;

/// Where a buffer lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The buffer.
    pub buffer: Buffer,
    /// Its bytes.
    pub bytes: u64,
    /// When it is stored.
    pub birth: u32,
    /// When it is read last.
    pub death: u32,
    /// Which of the plan's storages holds it, alone or in turn with others.
    pub storage: usize,
    /// The buffer whose memory it takes over, if it has none of its own.
    pub shares: Option<Buffer>,
}

/// A range of bytes that one buffer, or several in turn, have for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Which window of the plan it lies in.
    pub window: usize,
    /// Its first byte in the slab.
    pub offset: u64,
    /// Its bytes, a multiple of the alignment.
    pub bytes: u64,
    /// The birth of the first buffer in it.
    pub birth: u32,
    /// The death of the last buffer in it.
    pub death: u32,
}

/// A range of a slab that one binding covers; no buffer crosses its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Which slab it lies in.
    pub slab: usize,
    /// Its first byte in the slab.
    pub offset: u64,
    /// Its bytes, a multiple of the alignment.
    pub bytes: u64,
}

/// Places for buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The limits that it keeps.
    pub limits: Limits,
    /// Bytes of each slab: the buffers to allocate.
    pub slabs: Vec<u64>,
    /// The windows, ordered by slab and offset.
    pub windows: Vec<Window>,
    /// The storages, ordered by birth.
    pub storages: Vec<Storage>,
    /// The places, ordered by buffer.
    pub places: Vec<Place>,
    /// The largest sum of bytes of storages alive at once: no plan needs less.
    pub lower_bound_bytes: u64,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A buffer is larger than what a kernel can bind.
    #[error("{buffer} ({origin}) needs {bytes} bytes, wanted at most {bytes_max} in one binding")]
    Large {
        /// The buffer.
        buffer: Buffer,
        /// What stores it and its place in the source model.
        origin: String,
        /// Its size.
        bytes: u64,
        /// The limit of the target.
        bytes_max: u64,
    },
    /// Sizes cannot be summed in 64 bits.
    #[error("{buffers} buffers need more than 2^64 bytes together")]
    Sum {
        /// The number of buffers.
        buffers: usize,
    },
}

impl PlanError {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            PlanError::Large { .. } | PlanError::Sum { .. } => {
                "choose a smaller picture or batch, a type of 16 bits, or decode in tiles"
            }
        }
    }
}

/// Gives every buffer of `lifetimes` its place; they are ordered by birth, and what they overwrite
/// comes before them.
///
/// Buffers are placed one by one, each into the smallest gap that holds it among those placed that
/// live at the same time: once from the largest to the smallest, once by bytes times how long they
/// live, and once as they are born (a linear scan); the smallest plan is kept. The first order is "greedy by size for offset calculation" of
/// Pisarchyk and Lee 2020 (arXiv 2001.03288).
///
/// # Errors
/// When a buffer is larger than a window can be, or the sum of all sizes than 64 bits hold.
///
/// # Panics
/// When the alignment is 0, `lifetimes` are not in order, or two are of one buffer.
pub fn plan(lifetimes: &[Lifetime], limits: &Limits) -> Result<Plan, PlanError> {
    assert!(limits.alignment > 0, "an alignment is a number of bytes");
    let (mut storages, places) = share::share(lifetimes, limits)?;
    let mut sizes = storages.iter().map(|storage| storage.bytes);
    sizes
        .try_fold(0u64, u64::checked_add)
        .ok_or(PlanError::Sum {
            buffers: lifetimes.len(),
        })?;
    let windows = assign::assign(&mut storages, limits.window_bytes_max());
    let (slabs, windows) = assign::slabs(&windows, &mut storages, limits.buffer_bytes_max);
    Ok(Plan {
        limits: *limits,
        slabs,
        windows,
        lower_bound_bytes: live(&storages, &places).into_iter().max().unwrap_or(0),
        storages,
        places,
    })
}

/// The plan of the inputs of regions and of what they store.
///
/// # Errors
/// When a buffer is larger than what the limits let a kernel bind.
pub fn plan_regions(regions: &Regions, limits: &Limits) -> Result<Plan, PlanError> {
    plan(&lifetimes(regions), limits)
}

impl Plan {
    /// The bytes of all slabs.
    pub fn peak_bytes(&self) -> u64 {
        self.slabs.iter().sum()
    }

    /// The part of the peak, from 0 to 1, that is above the lower bound.
    pub fn fragmentation(&self) -> f64 {
        match self.peak_bytes() {
            0 => 0.0,
            peak => 1.0 - self.lower_bound_bytes as f64 / peak as f64,
        }
    }

    /// Where `buffer` lies; `None` for what is not in the plan.
    pub fn place(&self, buffer: Buffer) -> Option<&Place> {
        let found = self
            .places
            .binary_search_by_key(&buffer, |place| place.buffer);
        found.ok().map(|index| &self.places[index])
    }

    /// The slab of a place and its first byte therein.
    pub fn address(&self, place: &Place) -> (usize, u64) {
        let storage = &self.storages[place.storage];
        (self.windows[storage.window].slab, storage.offset)
    }

    /// The bytes of storages alive at each time from 0 to the last birth of a buffer.
    pub fn live_bytes(&self) -> Vec<u64> {
        live(&self.storages, &self.places)
    }
}

/// See [`Plan::live_bytes`].
fn live(storages: &[Storage], places: &[Place]) -> Vec<u64> {
    let times = places.iter().map(|place| place.birth as usize + 1);
    let mut changes = vec![(0u64, 0u64); times.max().unwrap_or(0)];
    for storage in storages {
        changes[storage.birth as usize].0 += storage.bytes;
        if let Some((_, freed)) = changes.get_mut(storage.death as usize) {
            *freed += storage.bytes;
        }
    }
    let mut after = 0;
    let sums = changes.into_iter().map(|(born, freed)| {
        let during = after + born;
        after = during - freed;
        during
    });
    sums.collect()
}
