//! Where lowerings build the function: wires that may be known at import, and operators on them.
//!
//! Takes operators of the graph IR on wires, gives wires. An operator whose operands are all known
//! is folded; constants, weights and sizes enter the function when something first uses them, so
//! that a chain of shape arithmetic leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use compiler::DType;
use compiler::graph::{Builder, Definition, GraphError, TensorType, Value};
use compiler::ops::{Broadcast, Cast, Concat, Iota, Op, Reshape, Slice, Transpose};
use compiler::value::dim::Dim;
use compiler::value::tensor::{Tensor, Values};

use super::bounds::RANK_MAX;
use super::error::Problem;
use super::fold::{Contents, EXPRESSION_MAX, fold};

/// What lowerings return.
pub(crate) type Result<T> = std::result::Result<T, Problem>;

/// A value of the ONNX graph while it is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Wire(usize);

#[derive(Debug)]
struct WireData {
    ty: TensorType,
    /// What it holds, where that is known.
    contents: Option<Contents>,
    /// The weight that it is: its name in the model, and what it holds.
    weight: Option<(String, Tensor)>,
    /// The value in the function, once something needs it.
    value: Option<Value>,
}

/// The function under construction.
#[derive(Debug)]
pub(crate) struct Context {
    builder: Builder,
    wires: Vec<WireData>,
    weights: BTreeMap<String, Tensor>,
    /// What wires are in another type.
    retyped: HashMap<(Wire, DType), Wire>,
    origin: String,
}

/// A shape whose number of elements would be an expression with more products than this is
/// hostile.
const PRODUCTS_MAX: usize = 1 << 16;

impl Context {
    /// An empty function.
    pub(crate) fn new(name: &str) -> Context {
        Context {
            builder: Builder::new(name),
            wires: Vec::new(),
            weights: BTreeMap::new(),
            retyped: HashMap::new(),
            origin: String::new(),
        }
    }

    /// Values from here on come from `origin`.
    pub(crate) fn at(&mut self, origin: &str) {
        origin.clone_into(&mut self.origin);
        self.builder.at(origin);
    }

    /// Where values come from at present.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Ends the function with these results; gives it with the weights that it uses.
    pub(crate) fn finish(
        mut self,
        results: &[(String, Wire)],
    ) -> Result<(compiler::graph::Func, BTreeMap<String, Tensor>)> {
        for (name, wire) in results {
            let value = self.value(*wire)?;
            self.builder.result(name, value)?;
        }
        let func = self.builder.finish();
        Ok((func, self.weights))
    }

    fn wire(&mut self, ty: TensorType, contents: Option<Contents>) -> Wire {
        let (weight, value) = (None, None);
        self.wires.push(WireData {
            ty,
            contents,
            weight,
            value,
        });
        Wire(self.wires.len() - 1)
    }

    /// Declares an input of the function; its contents are known when the function is specialised
    /// on them.
    pub(crate) fn input(
        &mut self,
        name: &str,
        ty: TensorType,
        known: Option<Tensor>,
    ) -> std::result::Result<Wire, GraphError> {
        let value = self.builder.input(name, ty.clone())?;
        match known {
            Some(tensor) => Ok(self.constant(tensor)),
            None => {
                let wire = self.wire(ty, None);
                self.wires[wire.0].value = Some(value);
                Ok(wire)
            }
        }
    }

    /// A weight; it becomes a parameter when something uses it.
    pub(crate) fn weight(&mut self, name: &str, tensor: Tensor) -> Wire {
        let wire = self.wire(TensorType::of(&tensor), None);
        self.wires[wire.0].weight = Some((name.to_owned(), tensor));
        wire
    }

    /// Whether a wire is a weight.
    pub(crate) fn is_weight(&self, wire: Wire) -> bool {
        self.wires[wire.0].weight.is_some()
    }

    /// Whether a wire is a weight or known.
    pub(crate) fn is_stored(&self, wire: Wire) -> bool {
        self.is_weight(wire) || self.wires[wire.0].contents.is_some()
    }

    /// `wire` in another element type; a weight is converted now, the same wire once.
    pub(crate) fn retyped(&mut self, wire: Wire, dtype: DType) -> Result<Wire> {
        if let Some(&found) = self.retyped.get(&(wire, dtype)) {
            return Ok(found);
        }
        let found = match &self.wires[wire.0].weight {
            Some((name, tensor)) => {
                let (name, tensor) = (name.clone(), tensor.cast(dtype));
                self.weight(&name, tensor)
            }
            None => self.cast(wire, dtype)?,
        };
        self.retyped.insert((wire, dtype), found);
        Ok(found)
    }

    /// A constant.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> Wire {
        self.wire(TensorType::of(&tensor), Some(Contents::Tensor(tensor)))
    }

    /// A constant of `dtype` with one element and no axes.
    pub(crate) fn scalar(&mut self, dtype: DType, value: f64) -> Wire {
        self.constant(Tensor::from_values(dtype, &[], &Values::Float(vec![value])))
    }

    /// A list of i64 that are known up to symbols.
    pub(crate) fn dims(&mut self, dims: Vec<Dim>) -> Wire {
        let ty = TensorType::new(DType::I64, [dims.len()]);
        let contents = Contents::of_dims(&ty, dims);
        self.wire(ty, Some(contents))
    }

    /// A list of known i64.
    pub(crate) fn ints(&mut self, ints: &[i64]) -> Wire {
        self.constant(Tensor::from_i64(&[ints.len()], ints))
    }

    /// The type of a wire.
    pub(crate) fn ty(&self, wire: Wire) -> &TensorType {
        &self.wires[wire.0].ty
    }

    /// The extents of a wire.
    pub(crate) fn shape(&self, wire: Wire) -> Vec<Dim> {
        self.ty(wire).shape.clone()
    }

    /// The number of axes of a wire.
    pub(crate) fn rank(&self, wire: Wire) -> usize {
        self.ty(wire).rank()
    }

    /// The element type of a wire.
    pub(crate) fn dtype(&self, wire: Wire) -> DType {
        self.ty(wire).dtype
    }

    /// Applies an operator, or computes its result when all operands are known.
    pub(crate) fn push(&mut self, op: impl Into<Op>, operands: &[Wire]) -> Result<Wire> {
        let op = op.into();
        let types: Vec<TensorType> = operands.iter().map(|&w| self.ty(w).clone()).collect();
        let constraint = |violation| {
            let list: Vec<String> = types.iter().map(ToString::to_string).collect();
            let mut symbols = BTreeSet::new();
            let dims = types.iter().flat_map(|ty| &ty.shape);
            dims.for_each(|dim| dim.symbols(&mut symbols));
            Problem::Constraint {
                op: op.name(),
                operands: list.join(", "),
                symbols: symbols.into_iter().collect(),
                violation,
            }
        };
        let ty = op.infer(&types).map_err(constraint)?;
        check_size(&ty.shape)?;
        let known: Option<Vec<(&TensorType, &Contents)>> = operands
            .iter()
            .map(|&w| Some((self.ty(w), self.wires[w.0].contents.as_ref()?)))
            .collect();
        if let Some(contents) = known.and_then(|known| fold(&op, &known, &ty)) {
            return Ok(self.wire(ty, Some(contents)));
        }
        let operands: Result<Vec<Value>> = operands.iter().map(|&w| self.value(w)).collect();
        let value = self.builder.push(op, &operands?)?;
        let wire = self.wire(ty, None);
        self.wires[wire.0].value = Some(value);
        Ok(wire)
    }

    /// Applies an operator to `x` and a number of its type.
    pub(crate) fn push_scalar(&mut self, op: impl Into<Op>, x: Wire, number: f64) -> Result<Wire> {
        let number = self.scalar(self.dtype(x), number);
        self.push(op, &[x, number])
    }

    /// What `formula` makes of `x`, in the type of `x`; 16-bit floats are widened to f32 for it.
    pub(crate) fn in_f32(
        &mut self,
        x: Wire,
        formula: impl FnOnce(&mut Context, Wire) -> Result<Wire>,
    ) -> Result<Wire> {
        let dtype = self.dtype(x);
        let wide = match dtype {
            DType::F16 | DType::BF16 => self.cast(x, DType::F32)?,
            _ => x,
        };
        let result = formula(self, wide)?;
        self.cast(result, dtype)
    }

    /// The value of a wire in the function.
    pub(crate) fn value(&mut self, wire: Wire) -> Result<Value> {
        let data = &self.wires[wire.0];
        if let Some(value) = data.value {
            return Ok(value);
        }
        let ty = data.ty.clone();
        let value = match (&data.weight, &data.contents) {
            (Some((name, tensor)), _) => {
                let names = (1..).map(|suffix| format!("{name}.{suffix}"));
                let mut names = std::iter::once(name.clone()).chain(names);
                let free = names.find(|name| !self.weights.contains_key(name));
                let name = free.expect("names without end");
                self.weights.insert(name.clone(), tensor.clone());
                self.builder.weight(&name, ty)?
            }
            (None, Some(Contents::Tensor(tensor))) => {
                let tensor = tensor.clone();
                self.builder.constant(tensor)?
            }
            (None, Some(Contents::Dims(dims))) => {
                let dims = dims.clone();
                self.sizes(&ty, &dims)?
            }
            (None, None) => unreachable!("a wire is a value, a weight, or known"),
        };
        self.wires[wire.0].value = Some(value);
        Ok(value)
    }

    /// A tensor of sizes that the run has as numbers: the last elements of `0, 1, …, size`.
    fn sizes(&mut self, ty: &TensorType, dims: &[Dim]) -> Result<Value> {
        let one = Dim::from(1);
        let mut elements = Vec::with_capacity(dims.len());
        for dim in dims {
            let element = if let Some(known) = dim.known() {
                self.builder.constant(Tensor::from_i64(&[1], &[known]))?
            } else if dim.lower_bound().is_some_and(|bound| bound >= 0) {
                let iota = Iota {
                    length: dim.add(&one),
                    dtype: DType::I64,
                };
                let all = self.builder.push(iota, &[])?;
                let (axis, start, length) = (0, dim.clone(), one.clone());
                self.builder.push(
                    Slice {
                        axis,
                        start,
                        length,
                        step: 1,
                    },
                    &[all],
                )?
            } else {
                return Err(symbolic("a size that is used as data", dim));
            };
            elements.push(element);
        }
        let mut value = match elements.len() {
            1 => elements[0],
            _ => self.builder.push(Concat { axis: 0 }, &elements)?,
        };
        if ty.rank() != 1 {
            value = self.builder.push(
                Reshape {
                    shape: ty.shape.clone(),
                },
                &[value],
            )?;
        }
        if ty.dtype != DType::I64 {
            value = self.builder.push(Cast { dtype: ty.dtype }, &[value])?;
        }
        Ok(value)
    }

    /// The constant that a wire is, if it is one.
    pub(crate) fn known(&self, wire: Wire) -> Option<&Tensor> {
        match &self.wires[wire.0].contents {
            Some(Contents::Tensor(tensor)) => Some(tensor),
            Some(Contents::Dims(_)) | None => None,
        }
    }

    /// The sizes that the operand `name` holds, up to symbols.
    ///
    /// # Errors
    /// When only the run tells them, or they are no integers.
    pub(crate) fn sizes_of(&self, wire: Wire, name: &'static str) -> Result<Vec<Dim>> {
        let Some(contents) = &self.wires[wire.0].contents else {
            return Err(self.run_time(wire, name));
        };
        contents.dims().ok_or_else(|| Problem::Operand {
            name,
            found: self.ty(wire).to_string(),
            wanted: "a short list of integers".to_owned(),
        })
    }

    /// The integers that the operand `name` holds.
    ///
    /// # Errors
    /// When only the run tells them, a symbol is in the way, or they are no integers.
    pub(crate) fn ints_of(&self, wire: Wire, name: &'static str) -> Result<Vec<i64>> {
        let dims = self.sizes_of(wire, name)?;
        dims.iter().map(|dim| int(dim, name)).collect()
    }

    /// The numbers that the operand `name` holds.
    ///
    /// # Errors
    /// When only the run tells them, or a symbol is in the way.
    pub(crate) fn floats_of(&self, wire: Wire, name: &'static str) -> Result<Vec<f64>> {
        match &self.wires[wire.0].contents {
            None => Err(self.run_time(wire, name)),
            Some(Contents::Tensor(tensor)) => Ok(match tensor.values() {
                Values::Float(floats) => floats,
                Values::Int(ints) => ints.into_iter().map(|v| v as f64).collect(),
                Values::Bool(truths) => {
                    truths.into_iter().map(|t| f64::from(u8::from(t))).collect()
                }
            }),
            Some(Contents::Dims(dims)) => dims
                .iter()
                .map(|dim| int(dim, name).map(|v| v as f64))
                .collect(),
        }
    }

    /// The one number that the operand `name` holds.
    pub(crate) fn float_of(&self, wire: Wire, name: &'static str) -> Result<f64> {
        let floats = self.floats_of(wire, name)?;
        one(floats, name)
    }

    /// The one integer that the operand `name` holds.
    pub(crate) fn int_of(&self, wire: Wire, name: &'static str) -> Result<i64> {
        let ints = self.ints_of(wire, name)?;
        one(ints, name)
    }

    /// That only the run tells what `wire` holds, with the inputs and weights it depends on.
    fn run_time(&self, wire: Wire, name: &'static str) -> Problem {
        let mut inputs = BTreeSet::new();
        let mut visited = BTreeSet::new();
        let mut open: Vec<Value> = self.wires[wire.0].value.into_iter().collect();
        if let Some((name, _)) = &self.wires[wire.0].weight {
            inputs.insert(name.clone());
        }
        while let Some(value) = open.pop() {
            if !visited.insert(value) {
                continue;
            }
            match &self.builder.func().value(value).definition {
                Definition::Param(param) => {
                    inputs.insert(param.name.clone());
                }
                Definition::Node(node) => open.extend(&node.operands),
            }
        }
        Problem::RunTime {
            name,
            inputs: inputs.into_iter().collect(),
        }
    }

    /// `wire` under another shape of as many elements.
    pub(crate) fn reshape(&mut self, wire: Wire, shape: Vec<Dim>) -> Result<Wire> {
        check_size(&shape)?;
        match shape == self.ty(wire).shape {
            true => Ok(wire),
            false => self.push(Reshape { shape }, &[wire]),
        }
    }

    /// `wire` stretched to `shape` by NumPy's rule.
    pub(crate) fn broadcast(&mut self, wire: Wire, shape: Vec<Dim>) -> Result<Wire> {
        check_size(&shape)?;
        match shape == self.ty(wire).shape {
            true => Ok(wire),
            false => self.push(Broadcast { shape }, &[wire]),
        }
    }

    /// `wire` with its axes in the order `permutation`.
    pub(crate) fn transpose(&mut self, wire: Wire, permutation: Vec<usize>) -> Result<Wire> {
        match permutation
            .iter()
            .enumerate()
            .all(|(axis, &from)| axis == from)
        {
            true => Ok(wire),
            false => self.push(Transpose { permutation }, &[wire]),
        }
    }

    /// `wire` in another element type.
    pub(crate) fn cast(&mut self, wire: Wire, dtype: DType) -> Result<Wire> {
        match self.dtype(wire) == dtype {
            true => Ok(wire),
            false => self.push(Cast { dtype }, &[wire]),
        }
    }

    /// `length` elements of `wire` along `axis`, beginning at `start`.
    pub(crate) fn slice(
        &mut self,
        wire: Wire,
        axis: usize,
        start: Dim,
        length: Dim,
    ) -> Result<Wire> {
        match start.is(0) && self.ty(wire).shape.get(axis) == Some(&length) {
            true => Ok(wire),
            false => self.push(
                Slice {
                    axis,
                    start,
                    length,
                    step: 1,
                },
                &[wire],
            ),
        }
    }

    /// The extent of `axis` as a number.
    ///
    /// # Errors
    /// When it is a symbol.
    pub(crate) fn extent(&self, wire: Wire, axis: usize) -> Result<usize> {
        let dim = &self.ty(wire).shape[axis];
        dim.extent()
            .ok_or_else(|| symbolic(&format!("the extent of axis {axis}"), dim))
    }
}

/// Refuses shapes on which arithmetic would explode.
fn check_size(shape: &[Dim]) -> Result<()> {
    let sizes = shape
        .iter()
        .filter(|dim| dim.known().is_none())
        .map(Dim::size);
    let products = sizes.clone().fold(1usize, usize::saturating_mul);
    if shape.len() > RANK_MAX || products > PRODUCTS_MAX || sizes.max() > Some(EXPRESSION_MAX) {
        let found = format!("{} axes with long expressions", shape.len());
        let wanted = format!("at most {RANK_MAX} axes with short ones: bind the symbols");
        return Err(Problem::Operand {
            name: "shape",
            found,
            wanted,
        });
    }
    Ok(())
}

fn one<T>(values: Vec<T>, name: &'static str) -> Result<T> {
    let found = format!("{} elements", values.len());
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (_, _) => Err(Problem::Operand {
            name,
            found,
            wanted: "one element".to_owned(),
        }),
    }
}

/// The number that a size is.
///
/// # Errors
/// When a symbol is in the way.
pub(crate) fn int(dim: &Dim, what: &str) -> Result<i64> {
    dim.known().ok_or_else(|| symbolic(what, dim))
}

/// That a symbol is in the way of a number.
pub(crate) fn symbolic(what: &str, dim: &Dim) -> Problem {
    let mut symbols = BTreeSet::new();
    dim.symbols(&mut symbols);
    Problem::Symbolic {
        what: what.to_owned(),
        found: dim.to_string(),
        symbols: symbols.into_iter().collect(),
    }
}
