//! Memory of a processor: addresses that no host has, each access within one reservation.

use std::collections::BTreeMap;

/// Where the first reservation begins.
const FIRST: u64 = 1 << 40;
/// Reservations begin at multiples of this, as the driver's do.
const ALIGNMENT: u64 = 256;

/// All reservations by their first address.
#[derive(Debug, Default)]
pub struct Memory {
    reserved: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Memory {
    /// Bytes of an address that nothing has had yet.
    pub fn reserve(&mut self, bytes: Vec<u8>) -> u64 {
        let address = self.next.max(FIRST);
        // An access past the end meets no other reservation.
        self.next = (address + bytes.len() as u64 + ALIGNMENT).next_multiple_of(ALIGNMENT);
        self.reserved.insert(address, bytes);
        address
    }

    /// Gives a reservation back.
    pub fn free(&mut self, address: u64) -> Option<Vec<u8>> {
        self.reserved.remove(&address)
    }

    /// Bytes that are reserved.
    pub fn bytes(&self) -> u64 {
        self.reserved.values().map(|own| own.len() as u64).sum()
    }

    /// Some bytes; `None` where they are not all of one reservation.
    pub fn at(&mut self, address: u64, count: usize) -> Option<&mut [u8]> {
        let (first, own) = self.reserved.range_mut(..=address).next_back()?;
        let start = usize::try_from(address - first).ok()?;
        own.get_mut(start..start.checked_add(count)?)
    }
}
