//! The inputs of a graph: names, element types, and extents as numbers or symbols.
//!
//! Takes the declared inputs with sizes that the caller knows, gives types. Names of extents become
//! identifiers; extents without a name are called after their input and axis.

use std::collections::{BTreeMap, BTreeSet};

use compiler::DType;
use compiler::graph::TensorType;
use compiler::value::dim::{Bindings, Dim};
use compiler::value::tensor::Tensor;

use super::bounds::RANK_MAX;
use super::error::ImportError;
use super::proto::{GraphProto, TensorTypeProto, ValueInfoProto, element_type, element_type_name};

/// The inputs that must be given at each call, with their types; symbols are bound where
/// `bindings` (by the model's name or by the symbol) or the tensors at hand tell them.
///
/// # Errors
/// When a type is not that of a dense tensor, an extent is negative, or a tensor at hand does not
/// fit the declared type.
pub(crate) fn inputs<'m>(
    graph: &'m GraphProto,
    bindings: &Bindings,
    at_hand: &BTreeMap<String, Tensor>,
) -> Result<Vec<(&'m str, TensorType)>, ImportError> {
    let defaults: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut symbols = Symbols::default();
    let mut bound = bindings.clone();
    let mut declared = Vec::new();
    for input in &graph.input {
        let given = at_hand.get(&input.name);
        if defaults.contains(input.name.as_str()) && given.is_none() {
            continue;
        }
        declared.push((
            input.name.as_str(),
            declared_type(input, given, &mut symbols)?,
        ));
    }
    for (model_name, symbol) in &symbols.names {
        if let Some(&size) = bindings.get(model_name) {
            bound.insert(symbol.clone(), size);
        }
    }
    for (name, ty) in &declared {
        if let Some(tensor) = at_hand.get(*name) {
            take_extents(name, ty, tensor, &mut bound)?;
        }
    }
    Ok(declared
        .into_iter()
        .map(|(name, ty)| (name, ty.bind(&bound)))
        .collect())
}

/// The element type that a value is declared with, if the compiler has it.
pub(crate) fn element(value: &ValueInfoProto) -> Option<DType> {
    let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
    element_type(tensor.elem_type)
}

/// Names of extents in the model, and the symbols that they became.
#[derive(Default)]
struct Symbols {
    names: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl Symbols {
    /// The symbol for the name `name`: letters, digits, `_` and `.`, beginning with a letter.
    fn symbol(&mut self, name: &str) -> Dim {
        if let Some(symbol) = self.names.get(name) {
            return Dim::symbol(symbol);
        }
        let keep = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        };
        let mut symbol: String = name.chars().map(keep).collect();
        if !symbol.starts_with(|c: char| c.is_ascii_alphabetic()) {
            symbol.insert_str(0, "dim_");
        }
        while !self.taken.insert(symbol.clone()) {
            symbol.push('_');
        }
        self.names.insert(name.to_owned(), symbol.clone());
        Dim::symbol(&symbol)
    }
}

fn declared_type(
    input: &ValueInfoProto,
    given: Option<&Tensor>,
    symbols: &mut Symbols,
) -> Result<TensorType, ImportError> {
    let refuse = |found: String, wanted: &str| ImportError::Input {
        name: input.name.clone(),
        found,
        wanted: wanted.to_owned(),
    };
    let tensor = input.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
    let TensorTypeProto { elem_type, shape } = tensor.ok_or_else(|| {
        refuse(
            "a type that is no dense tensor's".to_owned(),
            "a dense tensor",
        )
    })?;
    let dtype = element_type(*elem_type).ok_or_else(|| {
        refuse(
            element_type_name(*elem_type),
            "an element type that the compiler has",
        )
    })?;
    let Some(shape) = shape else {
        let given = given.ok_or_else(|| {
            refuse(
                "no shape".to_owned(),
                "a shape in the model, or a tensor when compiling",
            )
        })?;
        return Ok(TensorType {
            dtype,
            ..TensorType::of(given)
        });
    };
    if shape.dim.len() > RANK_MAX {
        let found = format!("{} axes", shape.dim.len());
        return Err(refuse(found, &format!("at most {RANK_MAX}")));
    }
    let mut dims = Vec::with_capacity(shape.dim.len());
    for (axis, dim) in shape.dim.iter().enumerate() {
        dims.push(match (dim.dim_value, dim.dim_param.as_deref()) {
            (_, Some(name)) if !name.is_empty() => symbols.symbol(name),
            (Some(value), _) if value < 0 => {
                let found = format!("extent {value} on axis {axis}");
                return Err(refuse(found, "an extent of at least 0, or a name"));
            }
            (Some(value), _) => Dim::from(value),
            (None, _) => symbols.symbol(&format!("{}.{axis}", input.name)),
        });
    }
    Ok(TensorType { dtype, shape: dims })
}

/// Binds bare symbols to the extents of a tensor at hand, and checks the rest of its type.
fn take_extents(
    name: &str,
    ty: &TensorType,
    tensor: &Tensor,
    bound: &mut Bindings,
) -> Result<(), ImportError> {
    let found = TensorType::of(tensor);
    if found.rank() == ty.rank() {
        for (dim, &extent) in ty.shape.iter().zip(tensor.shape()) {
            if let Some(symbol) = dim.as_symbol() {
                bound.entry(symbol.to_owned()).or_insert(extent);
            }
        }
    }
    let wanted = ty.bind(bound);
    match wanted == found {
        true => Ok(()),
        false => Err(ImportError::Input {
            name: name.to_owned(),
            found: found.to_string(),
            wanted: wanted.to_string(),
        }),
    }
}
