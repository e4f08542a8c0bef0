//! Which buffers share memory.
//!
//! Takes lifetimes, gives storages without offsets, and for each buffer its storage. It decides
//! only by who lives when: places are chosen afterwards.

use std::collections::BTreeMap;

use crate::region::Buffer;
use crate::target::Limits;

use super::{Lifetime, Place, PlanError, Storage};

/// Storages ordered by birth, with no window and no offset yet, and the buffers that they hold,
/// ordered by buffer.
pub(super) fn share(
    lifetimes: &[Lifetime],
    limits: &Limits,
) -> Result<(Vec<Storage>, Vec<Place>), PlanError> {
    let mut storages: Vec<Storage> = Vec::new();
    let mut places: Vec<Place> = Vec::with_capacity(lifetimes.len());
    // The storage of each buffer that nothing has overwritten yet.
    let mut homes: BTreeMap<Buffer, usize> = BTreeMap::new();
    for lifetime in lifetimes {
        let Lifetime {
            buffer,
            bytes,
            birth,
            ..
        } = *lifetime;
        assert!(
            places.last().is_none_or(|place| place.birth <= birth),
            "lifetimes are ordered by birth"
        );
        let death = lifetime.death.max(birth);
        let dying = |operand: &&Buffer| {
            let home = homes.get(operand);
            home.is_some_and(|&home| storages[home].death == birth)
        };
        let shares = lifetime.overwrites.iter().find(dying).copied();
        let storage = match shares.and_then(|shared| homes.remove(&shared)) {
            Some(storage) => {
                storages[storage].death = death;
                storage
            }
            None => {
                storages.push(Storage {
                    window: 0,
                    offset: 0,
                    bytes: aligned(lifetime, limits)?,
                    birth,
                    death,
                });
                storages.len() - 1
            }
        };
        let before = homes.insert(buffer, storage);
        assert!(before.is_none(), "a buffer is stored once");
        places.push(Place {
            buffer,
            bytes,
            birth,
            death,
            storage,
            shares,
        });
    }
    places.sort_by_key(|place| place.buffer);
    Ok((storages, places))
}

/// The bytes that a buffer takes, one at least so that every place is within a slab.
fn aligned(lifetime: &Lifetime, limits: &Limits) -> Result<u64, PlanError> {
    let bytes = lifetime.bytes.max(1);
    let rounded = bytes.checked_next_multiple_of(limits.alignment);
    rounded
        .filter(|&rounded| rounded <= limits.window_bytes_max())
        .ok_or_else(|| PlanError::Large {
            buffer: lifetime.buffer,
            origin: lifetime.origin.clone(),
            bytes: lifetime.bytes,
            bytes_max: limits.window_bytes_max(),
        })
}
