//! Layers of PyTorch as nodes with weights, under the names that PyTorch gives them.
//!
//! Takes a layer's path in the model and its operand, gives its result; the weights become
//! parameters named `<path>.weight` and `<path>.bias`. Images are `[batch, channels, height,
//! width]`, tokens `[batch, tokens, channels]`. It decides nothing about a model's structure.

use compiler::graph::{Builder, Func, GraphError, TensorType, Value};
use compiler::ops::{
    Add, Attention, Cast, Conv, GroupNorm, LayerNorm, Linear, Op, Reshape, Silu, Transpose,
};
use compiler::value::dim::Dim;
use compiler::value::dtype::DType;
use compiler::value::tensor::{Tensor, Values};

/// A model under construction.
#[derive(Debug)]
pub(crate) struct Layers {
    builder: Builder,
    dtype: DType,
}

/// The window of a convolution with a square kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Rows and columns of the kernel.
    pub(crate) kernel: usize,
    /// Distance of two positions.
    pub(crate) stride: usize,
    /// Zeros above and to the left.
    pub(crate) before: usize,
    /// Zeros below and to the right.
    pub(crate) after: usize,
}

impl Window {
    /// A kernel of odd size that keeps height and width.
    pub(crate) fn same(kernel: usize) -> Window {
        Window {
            kernel,
            stride: 1,
            before: kernel / 2,
            after: kernel / 2,
        }
    }
}

impl Layers {
    /// Begins the function `name` whose weights and inner values have the type `dtype`.
    pub(crate) fn new(name: &str, dtype: DType) -> Layers {
        let builder = Builder::new(name);
        Layers { builder, dtype }
    }

    /// Values from here on belong to the module at `path`.
    pub(crate) fn at(&mut self, path: &str) {
        self.builder.at(path);
    }

    /// The extents of `x`.
    pub(crate) fn shape(&self, x: Value) -> Vec<Dim> {
        self.builder.ty(x).shape.clone()
    }

    /// An input of floats: f32 at the border, whatever the type inside.
    pub(crate) fn input(&mut self, name: &str, shape: Vec<Dim>) -> Result<Value, GraphError> {
        let x = self.typed_input(name, DType::F32, shape)?;
        self.cast(x, self.dtype)
    }

    /// An input of `dtype`, not converted.
    pub(crate) fn typed_input(
        &mut self,
        name: &str,
        dtype: DType,
        shape: Vec<Dim>,
    ) -> Result<Value, GraphError> {
        self.builder.input(name, TensorType { dtype, shape })
    }

    /// Names the result `x`, as f32.
    pub(crate) fn result(&mut self, name: &str, x: Value) -> Result<(), GraphError> {
        let x = self.cast(x, DType::F32)?;
        self.builder.result(name, x)
    }

    /// Ends the function.
    pub(crate) fn finish(self) -> Func {
        self.builder.finish()
    }

    /// Applies an operator.
    pub(crate) fn push(
        &mut self,
        op: impl Into<Op>,
        operands: &[Value],
    ) -> Result<Value, GraphError> {
        self.builder.push(op, operands)
    }

    /// A weight of the model's element type.
    pub(crate) fn weight<D: Into<Dim>>(
        &mut self,
        name: &str,
        shape: impl IntoIterator<Item = D>,
    ) -> Result<Value, GraphError> {
        self.builder
            .weight(name, TensorType::new(self.dtype, shape))
    }

    /// A constant tensor of floats in the element type `dtype`.
    pub(crate) fn constant(
        &mut self,
        dtype: DType,
        shape: &[usize],
        values: Vec<f64>,
    ) -> Result<Value, GraphError> {
        let tensor = Tensor::from_values(dtype, shape, &Values::Float(values));
        self.builder.constant(tensor)
    }

    /// A scalar of the model's element type.
    pub(crate) fn scalar(&mut self, value: f64) -> Result<Value, GraphError> {
        self.constant(self.dtype, &[], vec![value])
    }

    /// `x` in another element type.
    pub(crate) fn cast(&mut self, x: Value, dtype: DType) -> Result<Value, GraphError> {
        match self.builder.ty(x).dtype == dtype {
            true => Ok(x),
            false => self.push(Cast { dtype }, &[x]),
        }
    }

    /// `x` in the model's element type.
    pub(crate) fn cast_to_model(&mut self, x: Value) -> Result<Value, GraphError> {
        self.cast(x, self.dtype)
    }

    /// The sum, which broadcasts.
    pub(crate) fn add(&mut self, a: Value, b: Value) -> Result<Value, GraphError> {
        self.push(Add, &[a, b])
    }

    /// `x · σ(x)`.
    pub(crate) fn silu(&mut self, x: Value) -> Result<Value, GraphError> {
        self.push(Silu, &[x])
    }

    /// The same elements under another shape.
    pub(crate) fn reshape(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value, GraphError> {
        self.push(Reshape { shape }, &[x])
    }

    /// The axes in another order.
    fn transpose<const N: usize>(
        &mut self,
        x: Value,
        axes: [usize; N],
    ) -> Result<Value, GraphError> {
        let permutation = axes.to_vec();
        self.push(Transpose { permutation }, &[x])
    }

    /// `nn.Conv2d` with bias, from the channels of `x` to `channels`.
    pub(crate) fn conv(
        &mut self,
        path: &str,
        x: Value,
        channels: usize,
        window: Window,
    ) -> Result<Value, GraphError> {
        self.at(path);
        let input = self.shape(x)[1].clone();
        let kernel = Dim::from(window.kernel);
        let shape = [Dim::from(channels), input, kernel.clone(), kernel];
        let weight = self.weight(&format!("{path}.weight"), shape)?;
        let bias = self.weight(&format!("{path}.bias"), [channels])?;
        let op = Conv {
            strides: vec![window.stride; 2],
            pads_before: vec![window.before; 2],
            pads_after: vec![window.after; 2],
            dilations: vec![1; 2],
            groups: 1,
        };
        self.push(op, &[x, weight, bias])
    }

    /// `nn.Linear` with bias over the last axis of `x`, to `width` features.
    pub(crate) fn linear(
        &mut self,
        path: &str,
        x: Value,
        width: usize,
    ) -> Result<Value, GraphError> {
        self.at(path);
        let weight = self.linear_weight(path, x, width)?;
        let bias = self.weight(&format!("{path}.bias"), [width])?;
        self.push(Linear, &[x, weight, bias])
    }

    /// `nn.Linear` without bias over the last axis of `x`, to `width` features.
    pub(crate) fn linear_without_bias(
        &mut self,
        path: &str,
        x: Value,
        width: usize,
    ) -> Result<Value, GraphError> {
        self.at(path);
        let weight = self.linear_weight(path, x, width)?;
        self.push(Linear, &[x, weight])
    }

    fn linear_weight(&mut self, path: &str, x: Value, width: usize) -> Result<Value, GraphError> {
        let input = self.shape(x).last().cloned().unwrap_or(Dim::from(1));
        self.weight(&format!("{path}.weight"), [Dim::from(width), input])
    }

    /// `nn.GroupNorm` over the channels of an image.
    pub(crate) fn group_norm(
        &mut self,
        path: &str,
        x: Value,
        groups: usize,
        epsilon: f64,
    ) -> Result<Value, GraphError> {
        self.at(path);
        let channels = self.shape(x)[1].clone();
        let scale = self.weight(&format!("{path}.weight"), [channels.clone()])?;
        let bias = self.weight(&format!("{path}.bias"), [channels])?;
        self.push(GroupNorm { groups, epsilon }, &[x, scale, bias])
    }

    /// `nn.LayerNorm` over the last axis.
    pub(crate) fn layer_norm(
        &mut self,
        path: &str,
        x: Value,
        epsilon: f64,
    ) -> Result<Value, GraphError> {
        self.at(path);
        let width = self.shape(x).last().cloned().unwrap_or(Dim::from(1));
        let scale = self.weight(&format!("{path}.weight"), [width.clone()])?;
        let bias = self.weight(&format!("{path}.bias"), [width])?;
        let op = LayerNorm { axes: 1, epsilon };
        self.push(op, &[x, scale, bias])
    }

    /// Attention of `heads` heads over tokens `q` `[batch, n, heads·d]`, `k` and `v`
    /// `[batch, m, heads·d]`, scaled by `1/√d`; `[batch, n, heads·d]`.
    ///
    /// # Source
    /// Vaswani et al. 2017 (arXiv 1706.03762), eq. 1.
    pub(crate) fn attention(
        &mut self,
        [q, k, v]: [Value; 3],
        heads: usize,
        causal: bool,
    ) -> Result<Value, GraphError> {
        let shape = self.shape(q);
        let width = shape[2].extent().unwrap_or(heads);
        let size = width / heads;
        let mut split = [q, k, v];
        for operand in &mut split {
            let shape = self.shape(*operand);
            let parts = [heads, size].map(Dim::from);
            let parts = [&shape[..2], &parts].concat();
            let x = self.reshape(*operand, parts)?;
            *operand = self.transpose(x, [0, 2, 1, 3])?;
        }
        let scale = 1.0 / (size as f64).sqrt();
        let x = self.push(Attention { scale, causal }, &split)?;
        let x = self.transpose(x, [0, 2, 1, 3])?;
        self.reshape(x, shape)
    }

    /// An image as tokens, row by row: `[batch, height·width, channels]`.
    pub(crate) fn tokens(&mut self, x: Value) -> Result<Value, GraphError> {
        let shape = self.shape(x);
        let flat = [&shape[..2], &[shape[2].mul(&shape[3])]].concat();
        let x = self.reshape(x, flat)?;
        self.transpose(x, [0, 2, 1])
    }

    /// Tokens as an image of the height and width of `like`.
    pub(crate) fn image(&mut self, tokens: Value, like: Value) -> Result<Value, GraphError> {
        let x = self.transpose(tokens, [0, 2, 1])?;
        let flat = self.shape(x);
        let size = self.shape(like);
        self.reshape(x, [&flat[..2], &size[2..]].concat())
    }
}
