//! What the host computes between launches: regions that have no kernel.
//!
//! Takes regions with their tile programs, tells which the host computes and why, and which of
//! those before anything is launched. It places nothing.

use std::collections::BTreeMap;

use compiler::plan::Update;
use compiler::region::{BufferData, Content, Region, RegionId, Regions};
use compiler::tile::Choice;

use super::buffers::{number, window_bytes};
use super::commands::{Requirements, StoredAs};

/// The regions without a kernel, with the reason: those that no tile program computes, and those
/// that read a weight that no binding holds. Expansion may refuse more.
pub(super) fn hosted(
    regions: &Regions,
    choices: &[Choice],
    forms: &[StoredAs],
    requirements: &Requirements,
) -> BTreeMap<RegionId, String> {
    let mut hosted = BTreeMap::new();
    for ((id, region), choice) in regions.iter().zip(choices) {
        let reason = match choice {
            Choice::Plain(reasons) => {
                let first = reasons.first().map(|(_, reason)| reason.clone());
                Some(first.unwrap_or_default())
            }
            Choice::Blocks(_) => large(regions, region, forms, requirements),
        };
        if let Some(reason) = reason {
            hosted.insert(id, reason);
        }
    }
    hosted
}

/// Why a weight cannot be bound, if one cannot.
fn large(
    regions: &Regions,
    region: &Region,
    forms: &[StoredAs],
    requirements: &Requirements,
) -> Option<String> {
    region.reads().into_iter().find_map(|buffer| {
        let data = regions.buffer(buffer);
        let bytes = window_bytes(data, forms[number(buffer)]);
        let most = requirements.limits.binding_bytes_max;
        (data.is_fixed() && bytes > most)
            .then(|| format!("{buffer} has {bytes} bytes, wanted at most {most} in one binding"))
    })
}

/// The regions that the host can compute before anything runs: they read inputs and what never
/// changes, and replace no state that others may still read.
pub(super) fn early(
    regions: &Regions,
    updates: &[Update],
    hosted: &BTreeMap<RegionId, String>,
) -> Vec<RegionId> {
    let given = |data: &BufferData| !data.is_state() && data.content != Content::Computed;
    let mut given: Vec<bool> = regions.buffers.iter().map(given).collect();
    let in_place = |buffer| {
        let mut updates = updates.iter();
        updates.any(|update| update.in_place && update.result == buffer)
    };
    let mut early = Vec::new();
    for (id, region) in regions.iter() {
        let ready = region.reads().iter().all(|buffer| given[number(*buffer)])
            && !region.stores().into_iter().any(in_place);
        if hosted.contains_key(&id) && ready {
            early.push(id);
            for buffer in region.stores() {
                given[number(buffer)] = true;
            }
        }
    }
    early
}
