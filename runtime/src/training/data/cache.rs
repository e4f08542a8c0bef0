//! What was encoded before, within a budget of memory.
//!
//! Takes values by keys, returns them as long as there was room. Nothing that came in goes out:
//! epochs visit every sample once, so that whatever is dropped last would be wanted first.

use std::collections::BTreeMap;

/// Values by keys.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    values: BTreeMap<K, V>,
    bytes_left: u64,
}

impl<K: Ord, V: Clone> Cache<K, V> {
    /// A cache for at most this number of bytes of values.
    pub(super) fn new(bytes: u64) -> Cache<K, V> {
        Cache {
            values: BTreeMap::new(),
            bytes_left: bytes,
        }
    }

    /// The value of a key, made by `make` unless it is there, and of `bytes` bytes.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn value<E>(
        &mut self,
        key: K,
        bytes: impl FnOnce(&V) -> u64,
        make: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(value) = self.values.get(&key) {
            return Ok(value.clone());
        }
        let value = make(&key)?;
        if let Some(left) = self.bytes_left.checked_sub(bytes(&value)) {
            self.bytes_left = left;
            self.values.insert(key, value.clone());
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_while_there_is_room() {
        let mut cache: Cache<u32, u32> = Cache::new(20);
        let mut made = Vec::new();
        for key in [1, 2, 1, 3, 3, 2] {
            let value = cache.value(
                key,
                |_| 8,
                |key| {
                    made.push(*key);
                    Ok::<u32, ()>(key * 10)
                },
            );
            assert_eq!(value, Ok(key * 10));
        }
        assert_eq!(made, [1, 2, 3, 3]);
    }
}
