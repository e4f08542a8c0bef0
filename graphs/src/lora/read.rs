//! Reads LoRA files: the layers, and the weights of a model that they change.
//!
//! Takes the tensors of a file and the modules of a model; returns the layers that fit and the
//! names of those that do not. A file of which nothing fits, or that holds adapters of another
//! kind, is refused: a picture that a part of a file makes would look like a bad file.

use std::collections::BTreeMap;

use compiler::graph::TensorType;
use compiler::value::tensor::{Tensor, Values};
use serde_json::{Map, Value};

use super::Layer;
use super::base::base;
use super::error::LoraError;
use super::keys::{Part, Parts, other_kind, split};
use super::modules::{Module, Modules};
use super::settings::{METADATA_KEY, Settings};
use crate::checkpoint::Tensors;

/// A LoRA file.
#[derive(Debug, Clone)]
pub struct File {
    /// Its name, for messages.
    pub name: String,
    /// Its tensors; those of factors may be read when they are needed, and once to be checked.
    pub tensors: Tensors,
    /// The texts in its header.
    pub metadata: BTreeMap<String, String>,
    /// The text of the `adapter_config.json` beside it, if there is one.
    pub adapter_config: Option<Vec<u8>>,
}

/// What a file changes of a model.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The layers that fit, at most one for each weight.
    pub layers: Vec<Layer>,
    /// The names of layers and of other tensors that fit nothing, as the file has them.
    pub misfits: Vec<String>,
    /// Whether alpha is stored in a file beside this one, which is not there: the scale is 1.
    pub lacks_settings: bool,
}

/// What PEFT puts before every key; its alpha is stored beside the file.
const PEFT: &str = "base_model.model.";

/// The layers of a file that fit a model.
///
/// # Errors
/// When the file holds adapters of another kind, no layer fits, a layer has the name of a module of
/// another shape (the file is for another model), or a layer is damaged.
pub fn read(file: &File, modules: &Modules) -> Result<Fitted, LoraError> {
    let name = || file.name.clone();
    if let Some((key, kind)) = file
        .tensors
        .keys()
        .find_map(|key| Some((key, other_kind(key)?)))
    {
        let (file, key) = (name(), key.clone());
        return Err(LoraError::Kind { file, kind, key });
    }
    let (layers, mut misfits) = parts(file);
    if layers.is_empty() {
        let (file, found) = (name(), misfits);
        return Err(LoraError::NoLayers { file, found });
    }
    let settings = AllSettings::read(file)?;
    let mut fitting: BTreeMap<(&str, &str), (&str, Layer)> = BTreeMap::new();
    for (&key, parts) in &layers {
        let is_layer = parts.down.is_some() || parts.up.is_some();
        let module = modules.find(key).filter(|_| is_layer);
        let Some(module) = module else {
            misfits.push(key.to_owned());
            continue;
        };
        let layer = layer(file, key, parts, module, &settings, &layers)?;
        let place = (module.component, module.name);
        if let Some((before, _)) = fitting.insert(place, (key, layer)) {
            return Err(LoraError::Twice {
                file: name(),
                module: format!("{} of the {}", module.name, module.component),
                layers: [before, key].map(str::to_owned),
            });
        }
    }
    if fitting.is_empty() {
        return Err(LoraError::Misfit {
            file: name(),
            base: base(&layers),
            layers: layers.into_keys().map(str::to_owned).collect(),
        });
    }
    let is_scaled = |parts: &Parts| parts.alpha.is_some();
    let lacks_settings = layers.keys().any(|key| key.starts_with(PEFT))
        && settings.is_empty()
        && !layers.values().any(is_scaled);
    Ok(Fitted {
        layers: fitting.into_values().map(|(_, layer)| layer).collect(),
        misfits,
        lacks_settings,
    })
}

/// The tensors of a file by layer, and the names of those that are of none.
fn parts(file: &File) -> (BTreeMap<&str, Parts>, Vec<String>) {
    let mut layers: BTreeMap<&str, Parts> = BTreeMap::new();
    let mut others = Vec::new();
    for (key, tensor) in &file.tensors {
        let Some((layer, part)) = split(key) else {
            others.push(key.clone());
            continue;
        };
        let parts = layers.entry(layer).or_default();
        let place = match part {
            Part::Down => &mut parts.down,
            Part::Up => &mut parts.up,
            Part::Alpha => &mut parts.alpha,
        };
        *place = Some(tensor.clone());
    }
    (layers, others)
}

/// The layer of a module.
fn layer(
    file: &File,
    key: &str,
    parts: &Parts,
    module: Module<'_>,
    settings: &AllSettings,
    layers: &BTreeMap<&str, Parts>,
) -> Result<Layer, LoraError> {
    let (name, layer) = (file.name.clone(), key.to_owned());
    let (Some(down), Some(up)) = (&parts.down, &parts.up) else {
        return Err(LoraError::Unpaired { file: name, layer });
    };
    let damaged = || LoraError::Factors {
        file: file.name.clone(),
        layer: key.to_owned(),
        down: TensorType::of(down),
        up: TensorType::of(up),
    };
    let found = product_shape(down, up).ok_or_else(damaged)?;
    if squeezed(&found) != squeezed(module.shape) {
        return Err(LoraError::Shape {
            file: name,
            layer,
            found,
            module: format!("{} of the {}", module.name, module.component),
            wanted: module.shape.to_vec(),
            base: base(layers),
        });
    }
    let count = down.fetched()?.not_finite() + up.fetched()?.not_finite();
    if count > 0 {
        let file = name;
        return Err(LoraError::NotFinite { file, layer, count });
    }
    let rank = down.shape()[0];
    let factor = match &parts.alpha {
        Some(alpha) => Some(alpha_value(file, key, alpha)? / rank as f64),
        None => settings.factor(module, rank),
    };
    Ok(Layer {
        component: module.component.to_owned(),
        module: module.name.to_owned(),
        down: down.clone(),
        up: up.clone(),
        // Without alpha the product is added as it is (spec 6.7).
        factor: factor.unwrap_or(1.0),
    })
}

/// The shape of the weight that two factors `[rank, in, …]` and `[out, rank, …]` make.
fn product_shape(down: &Tensor, up: &Tensor) -> Option<Vec<usize>> {
    let floats = down.dtype().is_float() && up.dtype().is_float();
    let (&[rank, ref inner @ ..], &[out, wanted, ref rest @ ..]) = (down.shape(), up.shape())
    else {
        return None;
    };
    let fits = rank == wanted && rank > 0 && !inner.is_empty();
    let is_plain = rest.iter().all(|extent| *extent == 1);
    (floats && fits && is_plain).then(|| [&[out], inner].concat())
}

/// A shape without extents of 1 at its end: a convolution of 1×1 is linear.
fn squeezed(shape: &[usize]) -> &[usize] {
    let kept = shape.iter().rposition(|extent| *extent != 1);
    // Rows and columns always count.
    &shape[..kept.map_or(0, |last| last + 1).max(shape.len().min(2))]
}

/// The number in a tensor of one element.
fn alpha_value(file: &File, key: &str, tensor: &Tensor) -> Result<f64, LoraError> {
    let wrong = |found: String| LoraError::Alpha {
        file: file.name.clone(),
        layer: key.to_owned(),
        found,
    };
    if tensor.elements() != 1 {
        return Err(wrong(format!("a tensor {}", TensorType::of(tensor))));
    }
    let alpha = match tensor.fetched()?.values() {
        Values::Float(values) => values[0],
        Values::Int(values) => values[0] as f64,
        Values::Bool(_) => f64::NAN,
    };
    match alpha.is_finite() {
        true => Ok(alpha),
        false => Err(wrong(alpha.to_string())),
    }
}

/// PEFT's settings of each network of a file.
#[derive(Debug)]
struct AllSettings(Vec<(&'static str, Settings)>);

/// The prefixes of settings, and the component that each is of; without one they are of all.
const PREFIXES: [(&str, &str); 4] = [
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("", ""),
];

impl AllSettings {
    fn read(file: &File) -> Result<AllSettings, LoraError> {
        let text = file.metadata.get(METADATA_KEY).map(String::as_bytes);
        let Some(text) = text.or(file.adapter_config.as_deref()) else {
            return Ok(AllSettings(Vec::new()));
        };
        let values: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| LoraError::Settings {
                file: file.name.clone(),
                reason: error.to_string(),
            })?;
        let mut all = Vec::new();
        for (prefix, component) in PREFIXES {
            let settings = Settings::read(&file.name, &values, prefix)?;
            all.extend(settings.map(|settings| (component, settings)));
        }
        Ok(AllSettings(all))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn factor(&self, module: Module<'_>, rank: usize) -> Option<f64> {
        let is_of = |own: &str| own.is_empty() || own == module.component;
        let (_, settings) = self.0.iter().find(|(own, _)| is_of(own))?;
        settings.factor(module.name, rank)
    }
}
