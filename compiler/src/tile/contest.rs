//! Which ways to compute a region are worth measuring.
//!
//! Takes regions and a target, gives for each distinct region the candidates of least predicted
//! time that differ enough to teach something. It measures nothing itself.

use std::collections::BTreeMap;

use crate::region::{Key, RegionId, Regions};
use crate::target::Target;
use crate::tile::choose::{Found, find, is_free, stored_bytes};
use crate::tile::programs::{Candidate, Program};
use crate::tile::region_ref::RegionRef;
use crate::tile::tuning::Case;
use crate::tile::{BlockProgram, LowerOptions};

/// Predictions of more than so many times the best one are not worth a measurement.
const SLACK: f64 = 2.0;

/// Blocks whose extents differ by less than this factor measure alike.
const SPREAD: f64 = 1.3;

/// Ways to compute all regions of one key.
#[derive(Debug, Clone)]
pub struct Contest {
    /// What measurements of it hold for.
    pub case: Case,
    /// One of the regions.
    pub region: RegionId,
    /// The time predicted for all of them together.
    pub seconds: f64,
    /// The ways, that of least predicted time first; one at least adds no weights.
    pub contenders: Vec<Contender>,
}

/// One way to compute a region.
#[derive(Debug, Clone)]
pub struct Contender {
    /// What runs.
    pub program: BlockProgram,
    /// What its candidates differ in.
    pub parameters: [usize; 3],
}

/// The contests of all distinct regions, that of the longest predicted time first: `most`
/// contenders at most in each.
pub fn contests(
    regions: &Regions,
    target: &Target,
    options: LowerOptions,
    most: usize,
) -> Vec<Contest> {
    let mut sites: BTreeMap<Key, (RegionId, usize)> = BTreeMap::new();
    for (id, region) in regions.iter() {
        sites.entry(regions.key(region)).or_insert((id, 0)).1 += 1;
    }
    let budget = stored_bytes(regions);
    let mut contests = Vec::with_capacity(sites.len());
    for (key, (id, count)) in sites {
        let region = RegionRef { regions, id };
        let case = Case::new(&key, target);
        let found = find(region, target, options);
        let Some((_, best)) = found.candidates.first() else {
            continue;
        };
        let build = |(program, candidate): (&Program, Candidate)| {
            let parameters = candidate.parameters;
            let program = (program.build)(region, parameters).ok()?;
            Some(Contender {
                program,
                parameters,
            })
        };
        contests.push(Contest {
            seconds: best.seconds * count as f64,
            contenders: spread(&found, budget, most)
                .into_iter()
                .filter_map(build)
                .collect(),
            region: id,
            case,
        });
    }
    contests.sort_by(|a, b| {
        b.seconds
            .total_cmp(&a.seconds)
            .then(a.region.cmp(&b.region))
    });
    contests
}

/// The best candidates whose weights fit into `budget`, no two of them alike.
fn spread(found: &Found, budget: u64, most: usize) -> Vec<(&'static Program, Candidate)> {
    let mut kept: Vec<(&'static Program, Candidate)> = Vec::new();
    let fits = found
        .candidates
        .iter()
        .filter(|(_, candidate)| candidate.added_weight_bytes <= budget);
    let mut slowest = None;
    for &(program, candidate) in fits {
        let slowest = *slowest.get_or_insert(candidate.seconds * SLACK);
        let alike = |own: &(&'static Program, Candidate)| {
            own.0.name == program.name && near(own.1.parameters, candidate.parameters)
        };
        if kept.len() < most && candidate.seconds <= slowest && !kept.iter().any(alike) {
            kept.push((program, candidate));
        }
    }
    // What the budget falls back to has to be known too.
    if !kept.iter().any(|(_, candidate)| is_free(candidate)) {
        let free = found.candidates.iter().find(|(_, c)| is_free(c));
        kept.truncate(most.saturating_sub(1));
        kept.extend(free.copied());
    }
    kept
}

fn near(a: [usize; 3], b: [usize; 3]) -> bool {
    a.iter().zip(b).all(|(&a, b)| {
        let (a, b) = (a.max(1) as f64, b.max(1) as f64);
        a.max(b) / a.min(b) < SPREAD
    })
}
