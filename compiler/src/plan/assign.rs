//! Offsets for storages: best fit in three orders.
//!
//! Takes storages with sizes and lifetimes, gives windows that hold them, and slabs that hold the
//! windows. It never changes what a storage holds or how long it lives.

use std::cmp::Reverse;

use super::{Storage, Window};

/// Above so many storages only the linear scan is tried, whose time grows with what lives at once
/// rather than with the square of all.
const BY_SIZE_MAX: usize = 1 << 14;

/// Where the storages came to lie in one order.
struct Assignment {
    /// The window of each storage and its offset in it.
    places: Vec<(usize, u64)>,
    /// The bytes of each window.
    windows: Vec<u64>,
}

/// A window being filled.
#[derive(Default)]
struct Filling {
    /// Storages ordered by offset.
    placed: Vec<(u64, usize)>,
    bytes: u64,
}

/// Where a storage could lie: the least is best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// Bytes by which the window grows.
    growth: u64,
    /// Bytes of the gap that stay empty.
    rest: u64,
    window: usize,
    offset: u64,
}

/// Gives every storage a window and an offset in it; gives the bytes of the windows, none above
/// `window_bytes_max`, which every storage meets.
pub(super) fn assign(storages: &mut [Storage], window_bytes_max: u64) -> Vec<u64> {
    let mut by_birth: Vec<usize> = (0..storages.len()).collect();
    by_birth.sort_by_key(|&index| storages[index].birth);
    let scanned = fill(storages, &by_birth, true, window_bytes_max);
    let mut orders = vec![scanned];
    if storages.len() <= BY_SIZE_MAX {
        let last = by_birth.last().map_or(0, |&index| storages[index].birth);
        let lives = |index: usize| {
            let Storage { birth, death, .. } = storages[index];
            death.min(last).saturating_sub(birth) + 1
        };
        let mut by_size = by_birth;
        by_size.sort_by_key(|&index| {
            let Storage { bytes, birth, .. } = storages[index];
            (Reverse(bytes), Reverse(lives(index)), birth, index)
        });
        orders.push(fill(storages, &by_size, false, window_bytes_max));
        let mut by_area = by_size;
        by_area.sort_by_key(|&index| {
            let area = u128::from(storages[index].bytes) * u128::from(lives(index));
            (Reverse(area), index)
        });
        orders.push(fill(storages, &by_area, false, window_bytes_max));
    }
    let cost = |assignment: &Assignment| {
        let bytes: u64 = assignment.windows.iter().sum();
        (bytes, assignment.windows.len())
    };
    let best = orders.into_iter().min_by_key(cost);
    let Assignment { places, windows } = best.expect("the linear scan is always tried");
    for (storage, (window, offset)) in storages.iter_mut().zip(places) {
        (storage.window, storage.offset) = (window, offset);
    }
    windows
}

/// Places the storages in `order`; where that is the order of their births, what died is forgotten.
fn fill(storages: &[Storage], order: &[usize], forget: bool, window_bytes_max: u64) -> Assignment {
    let mut fillings: Vec<Filling> = Vec::new();
    let mut places = vec![(0, 0); storages.len()];
    for &index in order {
        let storage = &storages[index];
        if forget {
            for filling in &mut fillings {
                filling
                    .placed
                    .retain(|&(_, other)| storages[other].death >= storage.birth);
            }
        }
        let fits = fillings.iter().enumerate();
        let best = fits
            .filter_map(|(window, filling)| {
                filling.fit(window, storage, storages, window_bytes_max)
            })
            .min();
        let Fit { window, offset, .. } = best.unwrap_or_else(|| {
            fillings.push(Filling::default());
            Fit {
                growth: storage.bytes,
                rest: 0,
                window: fillings.len() - 1,
                offset: 0,
            }
        });
        let filling = &mut fillings[window];
        let position = filling
            .placed
            .partition_point(|&placed| placed < (offset, index));
        filling.placed.insert(position, (offset, index));
        filling.bytes = filling.bytes.max(offset + storage.bytes);
        places[index] = (window, offset);
    }
    let windows = fillings.into_iter().map(|filling| filling.bytes).collect();
    Assignment { places, windows }
}

impl Filling {
    /// The best place for `storage` between the placed ones that live while it does, or after them.
    fn fit(
        &self,
        window: usize,
        storage: &Storage,
        storages: &[Storage],
        window_bytes_max: u64,
    ) -> Option<Fit> {
        let mut best: Option<Fit> = None;
        let mut free = 0u64;
        let mut offer = |offset: u64, end: u64| {
            let growth = (offset.saturating_add(storage.bytes)).saturating_sub(self.bytes);
            let rest = end.checked_sub(offset)?.checked_sub(storage.bytes)?;
            let rest = if growth > 0 { 0 } else { rest };
            let fit = Fit {
                growth,
                rest,
                window,
                offset,
            };
            best = Some(best.map_or(fit, |best| best.min(fit)));
            Some(())
        };
        for &(offset, other) in &self.placed {
            let other = &storages[other];
            if other.birth <= storage.death && storage.birth <= other.death {
                offer(free, offset);
                free = free.max(offset + other.bytes);
            }
        }
        let end = match free.saturating_add(storage.bytes) <= self.bytes {
            true => self.bytes,
            false => window_bytes_max,
        };
        offer(free, end);
        best
    }
}

/// Lays windows into slabs of at most `buffer_bytes_max`, each into the first with room; turns the
/// storages' offsets in windows into offsets in slabs.
pub(super) fn slabs(
    sizes: &[u64],
    storages: &mut [Storage],
    buffer_bytes_max: u64,
) -> (Vec<u64>, Vec<Window>) {
    let mut slabs: Vec<u64> = Vec::new();
    let mut windows: Vec<(usize, Window)> = Vec::with_capacity(sizes.len());
    for (index, &bytes) in sizes.iter().enumerate() {
        let room = |&used: &u64| buffer_bytes_max - used >= bytes;
        let slab = slabs.iter().position(room).unwrap_or_else(|| {
            slabs.push(0);
            slabs.len() - 1
        });
        let offset = slabs[slab];
        slabs[slab] += bytes;
        windows.push((
            index,
            Window {
                slab,
                offset,
                bytes,
            },
        ));
    }
    windows.sort_by_key(|(_, window)| (window.slab, window.offset));
    let mut renamed = vec![0; windows.len()];
    for (position, &(index, _)) in windows.iter().enumerate() {
        renamed[index] = position;
    }
    for storage in storages {
        storage.window = renamed[storage.window];
        storage.offset += windows[storage.window].1.offset;
    }
    let windows = windows.into_iter().map(|(_, window)| window).collect();
    (slabs, windows)
}
