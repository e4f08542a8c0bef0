//! Which values share memory.
//!
//! Takes lifetimes, gives storages without offsets, and for each value its storage. It decides only
//! by who lives when: places are chosen afterwards.

use std::collections::BTreeMap;

use crate::graph::Value;

use super::{Lifetime, Limits, Place, PlanError, Storage};

/// Storages ordered by birth, with no window and no offset yet, and the values that they hold.
pub(super) fn share(
    lifetimes: &[Lifetime],
    limits: &Limits,
) -> Result<(Vec<Storage>, Vec<Place>), PlanError> {
    let mut storages: Vec<Storage> = Vec::new();
    let mut places: Vec<Place> = Vec::with_capacity(lifetimes.len());
    let mut homes: BTreeMap<Value, usize> = BTreeMap::new();
    for lifetime in lifetimes {
        let Lifetime {
            value,
            bytes,
            birth,
            ..
        } = *lifetime;
        assert!(
            places.last().is_none_or(|place| place.value < value),
            "lifetimes are ordered by value"
        );
        let death = lifetime.death.max(birth);
        // All that was ever put into a storage is known to it by now: what is put into it later
        // uses a value in it, which then lives that long.
        let dying = |operand: &&Value| storages[homes[operand]].death == birth;
        let shares = match lifetime.alias {
            Some(alias) => Some(alias),
            None => lifetime.overwrites.iter().find(dying).copied(),
        };
        let storage = match shares {
            Some(shared) => {
                let storage = homes[&shared];
                storages[storage].death = storages[storage].death.max(death);
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
        homes.insert(value, storage);
        places.push(Place {
            value,
            bytes,
            birth,
            death,
            storage,
            shares,
        });
    }
    Ok((storages, places))
}

/// The bytes that a value takes, one at least so that every place is within a slab.
fn aligned(lifetime: &Lifetime, limits: &Limits) -> Result<u64, PlanError> {
    let bytes = lifetime.bytes.max(1);
    let rounded = bytes.checked_next_multiple_of(limits.alignment);
    rounded
        .filter(|&rounded| rounded <= limits.window_bytes_max())
        .ok_or_else(|| PlanError::Large {
            value: lifetime.value,
            origin: lifetime.origin.clone(),
            bytes: lifetime.bytes,
            bytes_max: limits.window_bytes_max(),
        })
}
