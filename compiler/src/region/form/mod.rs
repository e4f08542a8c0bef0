//! Region formation: the closed list of what may fuse.
//!
//! Takes a function of known sizes, gives regions that mean the same, how often each rule was
//! applied, and why not where a rule refused. One rule, one file, one line below, in the order
//! in which they run to a common fixpoint. It never chooses by measuring and knows no machine.

use std::collections::BTreeMap;

use crate::graph::Func;
use crate::region::lower::{ACCESS, Lowered, lower};
use crate::region::{Refusal, RegionId, Regions, layout, verify};

mod epilogue;
mod nodes;
mod norm_statistics;
mod number;
mod paired_columns;
mod pointwise;
mod rule;
mod shared_operand;
mod state;

use rule::Rule;
use state::{State, Verdict};

pub use rule::FormError;

macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        &[$(Rule { name: stringify!($name), apply: $name::apply }),*]
    };
}

/// All rules, in order: what a kernel computes is whole before kernels are joined. They run in
/// turn until none finds anything.
const RULES: &[Rule] = rules![
    pointwise,
    paired_columns,
    epilogue,
    shared_operand,
    norm_statistics,
];

/// The names of all rules in their order; the first is that of movements read as access maps.
pub fn rules() -> impl Iterator<Item = &'static str> {
    [ACCESS]
        .into_iter()
        .chain(RULES.iter().map(|rule| rule.name))
}

/// What formation gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Formed {
    /// The regions.
    pub regions: Regions,
    /// How often each rule was applied.
    pub counts: BTreeMap<&'static str, usize>,
    /// Why rules were not applied, by region.
    pub refusals: Vec<Refusal>,
}

/// Covers `func` with regions.
///
/// # Errors
/// When a size is not known, or what was formed breaks a rule.
pub fn form(func: &Func) -> Result<Formed, FormError> {
    let Lowered {
        regions,
        movements,
        mut refusals,
    } = lower(func)?;
    let mut state = State::new(regions);
    let mut counts = BTreeMap::new();
    if movements > 0 {
        counts.insert(ACCESS, movements);
    }
    loop {
        let (mut fused, mut refused) = (0, Vec::new());
        for rule in RULES {
            let (count, refusals) = fixpoint(rule, &mut state);
            if count > 0 {
                *counts.entry(rule.name).or_insert(0) += count;
            }
            fused += count;
            refused.extend(refusals);
            if cfg!(debug_assertions) {
                check(rule.name, &state.regions())?;
            }
        }
        // What is refused is said of the regions as they are in the end.
        if fused == 0 {
            refusals.extend(refused);
            break;
        }
    }
    let (mut regions, renamed) = state.finish();
    layout::choose(&mut regions);
    let outputs = regions.regions.iter_mut().flat_map(|own| &mut own.outputs);
    outputs.for_each(number::number);
    check("layout", &regions)?;
    refusals.retain_mut(|refusal| match renamed[refusal.region.0 as usize] {
        Some(region) => {
            refusal.region = region;
            true
        }
        None => false,
    });
    refusals.sort_by_key(|refusal| refusal.region);
    Ok(Formed {
        regions,
        counts,
        refusals,
    })
}

fn check(after: &'static str, regions: &Regions) -> Result<(), FormError> {
    verify(regions).map_err(|source| FormError::Broken { after, source })
}

/// Applies one rule to every slot until it finds nothing; gives how often it was applied and
/// what it refused at last.
fn fixpoint(rule: &Rule, state: &mut State) -> (usize, Vec<Refusal>) {
    let mut fused = 0;
    loop {
        let before = fused;
        let mut refusals = Vec::new();
        for slot in 0..state.slots() {
            while state.region(slot).is_some() {
                match (rule.apply)(state, slot) {
                    Verdict::Elsewhere => break,
                    Verdict::Refused(reason) => {
                        refusals.push(Refusal {
                            rule: rule.name,
                            region: RegionId(slot as u32),
                            origin: state.origin(slot),
                            reason,
                        });
                        break;
                    }
                    // Every fusion leaves fewer regions, or a statistic less to compute.
                    Verdict::Fused => fused += 1,
                }
            }
        }
        if fused == before {
            return (fused, refusals);
        }
    }
}
