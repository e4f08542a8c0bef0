//! Expansion: block programs become kernels of scalars, quads and workgroup memory.
//!
//! Takes the program of one region and how its buffers lie, gives one kernel. All decisions fall
//! here: what is printed later is what was verified. It knows no driver and no text.

use compiler::tile::Step;

use self::expansion::Expansion;
pub(crate) use self::expansion::{Expanded, Refusal, Request};

mod address;
mod attention;
mod blocks;
mod elements;
mod epilogue;
mod expansion;
mod flash_layout;
mod fragment;
mod functions;
mod near;
pub(crate) mod quads;
mod rows;
mod sight;
mod warp_layout;

/// The kernel of one program.
///
/// # Errors
/// With the reason, when there is none.
pub(crate) fn expand(request: Request<'_>) -> Result<Expanded, Refusal> {
    let Request {
        region, program, ..
    } = request;
    for output in &region.outputs {
        for node in &output.nodes {
            if let compiler::region::Node::Apply(op, _) = node
                && op.pointwise().is_none()
            {
                return Err(Refusal::Operator { name: op.name() });
            }
        }
    }
    let mut x = Expansion::new(request);
    match &program.body {
        _ if attention::Attention::of(region, program).is_some() => {
            elements::expand(&mut x, program)?;
        }
        body if contains(body, |step| matches!(step, Step::Mma { .. })) => {
            blocks::expand(&mut x, program)?;
        }
        body if contains(body, |step| {
            matches!(step, Step::Rows { .. } | Step::Fold { .. })
        }) =>
        {
            rows::expand(&mut x, program)?;
        }
        _ => elements::expand(&mut x, program)?,
    }
    Ok(x.finish())
}

/// Whether a step, or one within it, is such.
fn contains(steps: &[Step], is: fn(&Step) -> bool) -> bool {
    let mut all = steps.iter();
    all.any(|step| is(step) || contains(step.body(), is))
}
