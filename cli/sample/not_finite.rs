//! Networks that return NaN or infinity: which one did first, and what to do.
//!
//! Takes the result of a network, returns its values or a failure with the most likely cause. It
//! reads weights only after a failure.

use compiler::DType;
use compiler::graph::Role;
use compiler::program::pipeline::Component;
use runtime::pipeline::SamplingError;

use crate::error::{At, Failure};
use crate::loaded::not_finite;
use crate::model::Model;

/// The result of a component that ran in `dtype`.
pub(super) fn explained<T>(
    result: Result<T, SamplingError>,
    (model, component): (&Model, &Component),
    dtype: Option<DType>,
) -> Result<T, Failure> {
    let is_not_finite = matches!(result, Err(SamplingError::NotFinite { .. }));
    let result = result.at(format!("{}: {}", model.place(), component.name));
    result.map_err(|failure| match is_not_finite {
        true => failure.hint(advice(model, component, dtype)),
        false => failure,
    })
}

/// What to do: better weights, or another type.
fn advice(model: &Model, component: &Component, dtype: Option<DType>) -> String {
    let imported = model.graph(component).ok();
    if let Some(own) = &imported {
        match not_finite(&own.weights).as_deref() {
            Ok([]) => {}
            Ok([(name, count), ..]) => {
                return format!(
                    "the weight {name:?} holds {count} values that are NaN or infinite: download \
                     or export the model again"
                );
            }
            Err(changed) => return changed.to_string(),
        }
    }
    let compiled = model
        .artifact()
        .map(|own| own.manifest().about.dtype.as_str());
    let funcs = imported.iter().map(|imported| &imported.func);
    let mut types = funcs.flat_map(|func| func.params(Role::Weight));
    let is_its_own = types.any(|(_, _, ty)| ty.dtype == DType::F16);
    match (dtype, compiled) {
        (Some(DType::F16), None) => {
            "f16 holds no value above 65504: pass --dtype f32 or --dtype bf16".to_owned()
        }
        (_, Some("f16")) => "f16 holds no value above 65504: compile the model again with --dtype \
                             f32 or --dtype bf16"
            .to_owned(),
        (None, None) if is_its_own => "f16 holds no value above 65504: pass --dtype f32".to_owned(),
        (_, _) => "no weight is NaN or infinite, but values overflow: check that the weights are \
                   this model's own, or choose a smaller --cfg-scale"
            .to_owned(),
    }
}
