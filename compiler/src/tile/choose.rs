//! Which program computes which region, with which parameters.
//!
//! Takes regions, a target and what was measured on it, gives one choice per region: the
//! candidate of least time whose weights fit the budget. A time is a measured one where the region
//! was tuned, else a predicted one. It measures nothing itself.

use std::collections::BTreeMap;

use crate::DType;
use crate::graph::Role;
use crate::ops::Class;
use crate::region::{Buffer, Key, RegionId, Regions};
use crate::target::Target;
use crate::tile::BlockProgram;
use crate::tile::programs::{Candidate, PROGRAMS, Program};
use crate::tile::region_ref::RegionRef;
use crate::tile::tuning::{Case, Tuning};

/// What may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowerOptions {
    /// Whether sums stay sums: no program that rounds more than a direct one.
    pub exact: bool,
}

/// What computes a region.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Blocks of a tile program.
    Blocks(Box<BlockProgram>),
    /// Plain loops, for what is rare and small: with the reason of each program.
    Plain(Vec<(&'static str, String)>),
}

/// Regions with what computes each.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiled {
    /// One per region, in order.
    pub choices: Vec<Choice>,
    /// The time predicted for each, or measured where it was tuned.
    pub seconds: Vec<f64>,
    /// Bytes that transformed weights need beyond those stored.
    pub added_weight_bytes: u64,
    /// Bytes of weights that several kernels pack, each for itself, beyond those stored: a
    /// backward pass reads weights in another order than the forward pass.
    pub repacked_weight_bytes: u64,
}

/// All that could compute a region, best first, and why the other programs cannot.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) candidates: Vec<(&'static Program, Candidate)>,
    reasons: Vec<(&'static str, String)>,
}

/// Chooses for all regions.
pub fn lower(regions: &Regions, target: &Target, options: LowerOptions, tuning: &Tuning) -> Tiled {
    let mut known: BTreeMap<Key, Found> = BTreeMap::new();
    let keys: Vec<Key> = regions.regions.iter().map(|r| regions.key(r)).collect();
    for (key, (id, _)) in keys.iter().zip(regions.iter()) {
        if !known.contains_key(key) {
            let case = Case::new(key, target);
            let mut found = find(RegionRef { regions, id }, target, options);
            measured(&mut found, tuning, &case);
            known.insert(key.clone(), found);
        }
    }
    let sites: Vec<&Found> = keys.iter().map(|key| &known[key]).collect();
    let chosen = within_budget(&sites, stored_bytes(regions));
    let mut tiled = Tiled {
        choices: Vec::with_capacity(sites.len()),
        seconds: Vec::with_capacity(sites.len()),
        added_weight_bytes: 0,
        repacked_weight_bytes: 0,
    };
    for (((id, _), site), number) in regions.iter().zip(&sites).zip(chosen) {
        let (choice, candidate) = build(RegionRef { regions, id }, site, number);
        tiled.choices.push(choice);
        tiled.seconds.push(candidate.map_or(0.0, |c| c.seconds));
        tiled.added_weight_bytes += candidate.map_or(0, |c| c.added_weight_bytes);
    }
    tiled.repacked_weight_bytes = repacked(regions, &tiled.choices);
    tiled
}

/// See [`Tiled::repacked_weight_bytes`].
fn repacked(regions: &Regions, choices: &[Choice]) -> u64 {
    let mut packed: BTreeMap<Buffer, u64> = BTreeMap::new();
    for (region, choice) in regions.regions.iter().zip(choices) {
        let factor = match (choice, region.anchor.class()) {
            (Choice::Blocks(_), Class::Gemm | Class::Conv) => region.operands.get(1),
            (_, _) => None,
        };
        let Some(factor) = factor else { continue };
        let weight = |buffer: &Buffer| regions.buffer(*buffer).role() == Some(Role::Weight);
        let mut buffers = factor.pieces.iter().map(|piece| piece.buffer);
        if let Some(buffer) = buffers.find(weight) {
            let elements: u64 = factor.shape.iter().map(|&extent| extent as u64).product();
            let width = regions.buffer(buffer).extents.dtype.bytes() as u64;
            *packed.entry(buffer).or_insert(0) += elements * width;
        }
    }
    let beyond = packed
        .iter()
        .map(|(buffer, bytes)| bytes.saturating_sub(regions.buffer_bytes(*buffer)));
    beyond.sum()
}

/// Every program that could compute a region, fastest prediction first: what can be measured, or
/// compared with one another.
///
/// # Panics
/// When the region is not one of `regions`.
pub fn candidates(
    regions: &Regions,
    id: RegionId,
    target: &Target,
    options: LowerOptions,
) -> Vec<BlockProgram> {
    let region = RegionRef { regions, id };
    let found = find(region, target, options);
    let build = |(program, candidate): (&Program, Candidate)| {
        (program.build)(region, candidate.parameters).ok()
    };
    found.candidates.into_iter().filter_map(build).collect()
}

/// What could compute a region, best first, and the reasons of what cannot.
pub(super) fn find(region: RegionRef<'_>, target: &Target, options: LowerOptions) -> Found {
    let mut found = Found::default();
    if let Err(reason) = floats(region) {
        let reasons = PROGRAMS
            .iter()
            .map(|program| (program.name, reason.clone()));
        found.reasons = reasons.collect();
        return found;
    }
    for program in PROGRAMS {
        if options.exact && program.rounds_more {
            let reason = "wanted exact sums".to_owned();
            found.reasons.push((program.name, reason));
            continue;
        }
        match (program.candidates)(region, target) {
            Ok(candidates) => {
                let named = candidates.into_iter().map(|candidate| (program, candidate));
                found.candidates.extend(named);
            }
            Err(reason) => found.reasons.push((program.name, reason)),
        }
    }
    by_time(&mut found.candidates);
    found
}

/// A stable sort: of equal times the first program counts.
fn by_time(candidates: &mut [(&'static Program, Candidate)]) {
    candidates.sort_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
}

/// Keeps the candidates that were measured, with the times that they took: unless none of them
/// could be fallen back to when the budget is spent.
fn measured(found: &mut Found, tuning: &Tuning, case: &Case) {
    let known = |&(program, candidate): &(&'static Program, Candidate)| {
        let seconds = tuning.seconds(case, program.name, candidate.parameters)?;
        let candidate = Candidate {
            seconds,
            ..candidate
        };
        Some((program, candidate))
    };
    let known: Vec<_> = found.candidates.iter().filter_map(known).collect();
    if known.iter().any(|(_, candidate)| is_free(candidate)) {
        found.candidates = known;
        by_time(&mut found.candidates);
    }
}

/// Whether a candidate needs no more weights than are stored.
pub(super) fn is_free(candidate: &Candidate) -> bool {
    candidate.added_weight_bytes == 0
}

/// Tiles hold f32: everything that is computed must fit into that.
fn floats(region: RegionRef<'_>) -> Result<(), String> {
    let narrow = |dtype: DType| dtype.is_float() && dtype != DType::F64;
    for output in &region.outputs {
        let types = region.regions.node_types(&region, output);
        if let Some(dtype) = types.into_iter().find(|&dtype| !narrow(dtype)) {
            return Err(format!("{dtype} is computed, wanted f32, f16 or bf16"));
        }
    }
    Ok(())
}

/// For each site the candidate that it gets: the fastest without added weights, then step by step
/// the upgrade of all sites that gains most for a byte, while `budget` bytes hold what is added.
fn within_budget(sites: &[&Found], budget: u64) -> Vec<usize> {
    let free = |found: &Found| {
        let mut candidates = found.candidates.iter();
        candidates.position(|(_, candidate)| is_free(candidate))
    };
    let mut chosen: Vec<usize> = sites.iter().map(|found| free(found).unwrap_or(0)).collect();
    let mut wishes: Vec<(f64, usize, usize)> = Vec::new();
    for (site, found) in sites.iter().enumerate() {
        if let Some(without) = free(found) {
            let upgrades = upgrades(&found.candidates[..=without]).into_iter();
            wishes.extend(upgrades.map(|(gain, number)| (gain, site, number)));
        }
    }
    // The upgrades of one site gain less and less for a byte: they keep their order.
    wishes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(b.2.cmp(&a.2)));
    let mut spent = 0;
    for (_, site, number) in wishes {
        let bytes = |number: usize| sites[site].candidates[number].1.added_weight_bytes;
        let after = spent - bytes(chosen[site]) + bytes(number);
        if after <= budget {
            spent = after;
            chosen[site] = number;
        }
    }
    chosen
}

/// Of candidates sorted by time, the last without added weights, those that are worth their
/// bytes: each with the seconds that it gains for a byte over the one before, which is more than
/// the next one gains (the upper hull of gain over bytes).
fn upgrades(candidates: &[(&Program, Candidate)]) -> Vec<(f64, usize)> {
    let at = |number: usize| {
        let candidate = &candidates[number].1;
        (candidate.seconds, candidate.added_weight_bytes as f64)
    };
    let rate = |from: usize, to: usize| {
        let ((slow, few), (fast, many)) = (at(from), at(to));
        (slow - fast) / (many - few)
    };
    let mut hull = vec![candidates.len() - 1];
    // From slow to fast; only what is faster than all that add as much or less counts.
    for number in (0..candidates.len() - 1).rev() {
        let cheaper = |&other: &usize| at(other).1 >= at(number).1;
        while hull.len() > 1 && hull.last().is_some_and(cheaper) {
            hull.pop();
        }
        if hull.last().is_some_and(cheaper) {
            continue;
        }
        while let [.., before, last] = hull[..]
            && rate(before, last) <= rate(last, number)
        {
            hull.pop();
        }
        hull.push(number);
    }
    hull.windows(2)
        .map(|pair| (rate(pair[0], pair[1]), pair[1]))
        .collect()
}

fn build(region: RegionRef<'_>, site: &Found, number: usize) -> (Choice, Option<Candidate>) {
    let Some((program, candidate)) = site.candidates.get(number) else {
        return (Choice::Plain(site.reasons.clone()), None);
    };
    match (program.build)(region, candidate.parameters) {
        Ok(program) => (Choice::Blocks(Box::new(program)), Some(*candidate)),
        Err(reason) => (Choice::Plain(vec![(program.name, reason)]), None),
    }
}

/// Bytes of all weights as they are stored.
pub(super) fn stored_bytes(regions: &Regions) -> u64 {
    let buffers = regions.buffers.iter();
    let weights = buffers.filter(|data| data.role() == Some(Role::Weight));
    let bytes = weights.map(|data| data.extents.elements() * data.extents.dtype.bytes());
    bytes.map(|bytes| bytes as u64).sum()
}
