//! Places: which bytes of which slab hold which buffer, and when.
//!
//! Plain data, and what it sums up to. Nothing here chooses a place.

use thiserror::Error;

use crate::region::Buffer;
use crate::target::Limits;

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
pub(super) fn live(storages: &[Storage], places: &[Place]) -> Vec<u64> {
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
