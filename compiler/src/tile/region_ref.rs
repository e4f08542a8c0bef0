//! A region among the regions of a function: what a tile program is built for.
//!
//! Takes regions and a number, returns the region with what it is a part of. It decides nothing.

use std::ops::Deref;

use crate::region::{Region, RegionId, Regions};

/// A region of some regions.
#[derive(Debug, Clone, Copy)]
pub(super) struct RegionRef<'a> {
    pub(super) regions: &'a Regions,
    pub(super) id: RegionId,
}

impl Deref for RegionRef<'_> {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.regions.regions[self.id.0 as usize]
    }
}

impl RegionRef<'_> {
    /// The extents of what the anchor computes.
    ///
    /// # Errors
    /// If there is no anchor.
    pub(super) fn result(&self) -> Result<Vec<usize>, String> {
        let result = self.anchor_type().and_then(|ty| ty.extents());
        result.ok_or_else(|| "the anchor has no result".to_owned())
    }
}
