//! What a device is given of a program, and what an artifact stores of it.
//!
//! Takes regions, formed or read from text, and counts of what they cost; plans their memory. It
//! forms nothing and knows no graph.

use thiserror::Error;

use crate::graph::{Role, TensorType};
use crate::plan::{Plan, PlanError, plan_regions, weights};
use crate::region::{self, Buffer, Regions, RegionsError};
use crate::target::Limits;
use crate::value::tensor::Tensor;

/// Regions, the memory of their buffers, and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Executable {
    regions: Regions,
    plan: Plan,
    counts: Counts,
}

/// What the operators of a function come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Operators, parameters and constants not counted.
    pub nodes: u64,
    /// Floating-point operations of one run, a multiply-add counted as two.
    pub flops: u64,
}

/// What a program costs beside the memory of its plan, known before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Operators, parameters and constants not counted.
    pub nodes: u64,
    /// Bytes of the weights in the types that the program computes with.
    pub weight_bytes: u64,
    /// Number of weight elements.
    pub parameters: u64,
    /// Floating-point operations of one run, a multiply-add counted as two.
    pub flops: u64,
}

/// Why stored text is not an executable.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ExecutableError {
    /// The text is not the regions of a function.
    #[error(transparent)]
    Regions(#[from] RegionsError),
    /// The buffers do not fit in memory.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Executable {
    /// The executable of regions that keep their rules.
    ///
    /// # Errors
    /// When memory cannot be planned.
    pub(super) fn new(regions: Regions, counts: Counts) -> Result<Executable, PlanError> {
        let plan = plan_regions(&regions, &Limits::NONE)?;
        Ok(Executable {
            regions,
            plan,
            counts,
        })
    }

    /// The executable of stored regions: their text, and the constants that it leaves out.
    ///
    /// # Errors
    /// When the text does not parse, the regions break a rule, or memory cannot be planned.
    pub fn parse(
        text: &str,
        constants: &[Tensor],
        counts: Counts,
    ) -> Result<Executable, ExecutableError> {
        Ok(Executable::new(region::parse(text, constants)?, counts)?)
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.regions.name
    }

    /// What its kernels compute, one region each.
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Where its buffers lie, on a target whose memory is one piece. It is made of the regions
    /// alone.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What its operators come to.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the program costs.
    pub fn cost(&self) -> Cost {
        let weights = weights(&self.regions);
        let bytes = weights.iter().map(|weight| weight.bytes);
        let parameters = weights.iter().map(|weight| {
            let extents = &self.regions.buffer(weight.buffer).extents;
            extents.elements() as u64
        });
        Cost {
            nodes: self.counts.nodes,
            weight_bytes: bytes.fold(0, u64::saturating_add),
            parameters: parameters.fold(0, u64::saturating_add),
            flops: self.counts.flops,
        }
    }

    /// The name and type of each parameter of a role, in order.
    pub fn params(&self, wanted: Role) -> impl Iterator<Item = (&str, TensorType)> {
        let params = self.regions.params();
        let wanted = params.filter(move |(_, own)| own.role == wanted);
        wanted.map(|(buffer, param)| (param.name.as_str(), self.ty(buffer)))
    }

    /// The name and type of each result, new states included, in order.
    pub fn results(&self) -> impl Iterator<Item = (&str, TensorType)> {
        let results = self.regions.results.iter();
        results.map(|(name, buffer)| (name.as_str(), self.ty(*buffer)))
    }

    fn ty(&self, buffer: Buffer) -> TensorType {
        TensorType::from(&self.regions.buffer(buffer).extents)
    }

    /// The name and type of each input, in order.
    pub fn inputs(&self) -> Vec<(String, TensorType)> {
        named(self.params(Role::Input))
    }

    /// The name and type of each state, in order.
    pub fn states(&self) -> Vec<(String, TensorType)> {
        named(self.params(Role::State))
    }

    /// The name and type of each result that a caller gets, in order: no new states.
    pub fn outputs(&self) -> Vec<(String, TensorType)> {
        let is_state = |name: &str| self.params(Role::State).any(|(own, _)| own == name);
        named(self.results().filter(|(name, _)| !is_state(name)))
    }
}

fn named<'a>(typed: impl Iterator<Item = (&'a str, TensorType)>) -> Vec<(String, TensorType)> {
    typed.map(|(name, ty)| (name.to_owned(), ty)).collect()
}
