//! Writes LoRA layers as tensors of a file.
//!
//! Takes trained layers, returns the tensors of `pytorch_lora_weights.safetensors` as diffusers and
//! PEFT read it, or of a file as kohya's scripts write it. It writes no file.

use std::collections::BTreeMap;

use compiler::value::tensor::{Tensor, Values};

use super::Layer;
use super::modules::Modules;
use crate::checkpoint::Tensors;

/// The spelling of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `unet.<module>.lora_A.weight` and `lora_B.weight`. Such files have no place for alpha that
    /// every reader looks at: the second factor is multiplied by alpha over the rank instead.
    Diffusers,
    /// `lora_unet_<module>.lora_down.weight`, `lora_up.weight` and `alpha`; for SDXL with the
    /// modules' LDM names.
    Kohya,
}

/// The tensors of a file of these layers of a model. A layer of a module that the model does not
/// have is left out.
///
/// # Source
/// Spec 2.3 and 6.7.
pub fn write(format: Format, layers: &[Layer], modules: &Modules) -> Tensors {
    let mut tensors = BTreeMap::new();
    for layer in layers {
        let down = layer.down.clone();
        match format {
            Format::Diffusers => {
                let name = format!("{}.{}", layer.component, layer.module);
                tensors.insert(format!("{name}.lora_A.weight"), down);
                let up = scaled(&layer.up, layer.factor);
                tensors.insert(format!("{name}.lora_B.weight"), up);
            }
            Format::Kohya => {
                let Some(name) = modules.kohya_name(&layer.component, &layer.module) else {
                    continue;
                };
                let rank = down.shape().first().copied().unwrap_or(0);
                let alpha = (layer.factor * rank as f64) as f32;
                tensors.insert(format!("{name}.lora_down.weight"), down);
                tensors.insert(format!("{name}.lora_up.weight"), layer.up.clone());
                tensors.insert(format!("{name}.alpha"), Tensor::from_f32(&[], &[alpha]));
            }
        }
    }
    tensors
}

/// A tensor of floats times a number, in its own type.
fn scaled(tensor: &Tensor, factor: f64) -> Tensor {
    match tensor.values() {
        Values::Float(mut values) if factor != 1.0 => {
            values.iter_mut().for_each(|value| *value *= factor);
            Tensor::from_values(tensor.dtype(), tensor.shape(), &Values::Float(values))
        }
        Values::Float(_) | Values::Int(_) | Values::Bool(_) => tensor.clone(),
    }
}
