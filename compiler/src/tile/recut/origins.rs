//! Regions that were cut anew, with the original of each.
//!
//! Takes regions, gives them with other regions in the place of some. It decides nothing.

use crate::region::{Region, RegionId, Regions};

/// Regions, some of which compute a part of an original, or several originals at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Recut {
    /// The regions. Buffers of the originals keep their numbers, workspaces come after them.
    pub regions: Regions,
    origins: Vec<Origin>,
}

/// Where a region comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    /// The last of its originals.
    region: RegionId,
    /// Whether it is that one as it was.
    as_it_was: bool,
}

impl Recut {
    /// Regions as they are.
    pub fn none(regions: &Regions) -> Recut {
        let origin = |(region, _)| Origin {
            region,
            as_it_was: true,
        };
        Recut {
            origins: regions.iter().map(origin).collect(),
            regions: regions.clone(),
        }
    }

    /// The region of the originals that this one computes, or helps to compute; of several the
    /// last.
    ///
    /// # Panics
    /// When it is not one of these regions.
    pub fn origin(&self, id: RegionId) -> RegionId {
        self.origins[id.0 as usize].region
    }

    /// Whether a region is none of the originals.
    ///
    /// # Panics
    /// As [`Recut::origin`].
    pub fn is_new(&self, id: RegionId) -> bool {
        !self.origins[id.0 as usize].as_it_was
    }

    /// Each region in turn replaced by those of `cut`, where there are any: none in its place if
    /// another one computes it.
    pub(super) fn each(
        self,
        mut cut: impl FnMut(&mut Regions, RegionId, &Region) -> Option<Vec<Region>>,
    ) -> Recut {
        let Recut {
            mut regions,
            origins,
        } = self;
        let whole = std::mem::take(&mut regions.regions);
        let mut made = Vec::with_capacity(whole.len());
        let mut kept = Vec::with_capacity(whole.len());
        for ((number, region), origin) in (0..).zip(whole).zip(origins) {
            match cut(&mut regions, RegionId(number), &region) {
                None => {
                    made.push(region);
                    kept.push(origin);
                }
                Some(new) => {
                    let origin = Origin {
                        as_it_was: false,
                        ..origin
                    };
                    kept.extend(new.iter().map(|_| origin));
                    made.extend(new);
                }
            }
        }
        regions.regions = made;
        Recut {
            regions,
            origins: kept,
        }
    }
}
