//! Region formation: the closed list of what may fuse.
//!
//! Takes a function of known sizes, gives regions that mean the same, how often each rule was
//! applied, and why not where a rule refused. One rule, one file, one line below, in the order
//! in which they run to their fixpoints. It never chooses by measuring and knows no machine.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::graph::{Func, TensorType};
use crate::region::lower::{ACCESS, Lowered, lower};
use crate::region::{RegionId, Regions, layout};

mod epilogue;
mod norm_statistics;
mod paired_columns;
mod pointwise;
mod shared_operand;
mod state;

use state::State;

/// A directional fusion with a name.
struct Rule {
    /// The name: that of its file.
    name: &'static str,
    /// Fuses something into or with the region in a slot, if it can.
    apply: fn(&mut State, usize) -> Verdict,
}

/// What a rule answers.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// There is nothing for this rule.
    Elsewhere,
    /// There would be, but for this reason.
    Refused(String),
    /// Done; the slots have changed.
    Fused,
}

macro_rules! rules {
    ($($name:ident),* $(,)?) => {
        &[$(Rule { name: stringify!($name), apply: $name::apply }),*]
    };
}

/// All rules, in order: what a kernel computes is whole before kernels are joined.
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

/// Why a fusion was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule that refused.
    pub rule: &'static str,
    /// The region that it looked at.
    pub region: RegionId,
    /// Where that region's value comes from.
    pub origin: String,
    /// What was found.
    pub reason: String,
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

/// Why a function has no regions.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FormError {
    /// A size is not known.
    #[error("a value at {origin:?} has type {ty}, wanted known sizes")]
    Unbound {
        /// Where it comes from.
        origin: String,
        /// Its type.
        ty: TensorType,
    },
}

/// Covers `func` with regions.
///
/// # Errors
/// When a size is not known.
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
    for rule in RULES {
        let (fused, refused) = fixpoint(rule, &mut state);
        if fused > 0 {
            counts.insert(rule.name, fused);
        }
        refusals.extend(refused);
    }
    let (mut regions, renamed) = state.finish();
    layout::choose(&mut regions);
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
