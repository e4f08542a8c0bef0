//! Random well-typed functions: instructions that the builder refuses are left out.
//!
//! Takes small integers, gives a function over symbolic batch; among its nodes are the spellings
//! of exporters, whole and slightly wrong.

use compiler::graph::{Builder, Func, GraphError, TensorType, Value};
use compiler::ops::{self, Op};
use compiler::value::tensor::{Tensor, Values};
use compiler::{DType, Dim};

/// What to build next: an operator, two operands and a choice among its attributes, each taken
/// modulo what there is.
pub(crate) type Instruction = (u8, u8, u8, u8);

/// Which operators to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subset {
    /// All kinds, whatever they do to rounding errors.
    Any,
    /// Those that keep small errors small.
    Smooth,
}

/// Builds a function with floats of `dtype`.
pub(crate) fn build(instructions: &[Instruction], dtype: DType, subset: Subset) -> Func {
    let mut state = State {
        builder: Builder::new("random"),
        values: Vec::new(),
        dtype,
    };
    state.params().expect("parameters of small types");
    for (index, &instruction) in instructions.iter().enumerate() {
        state.builder.at(&format!("node {index}"));
        let built = match subset {
            Subset::Any if instruction.0 < 128 => state.node(instruction),
            Subset::Any | Subset::Smooth => state.smooth(instruction),
        };
        state.values.extend(built.ok());
    }
    let last = state.values.len();
    let kept = state.values[last.saturating_sub(3)..].to_vec();
    for (index, value) in kept.into_iter().enumerate() {
        let named = state.builder.result(&format!("result {index}"), value);
        named.expect("distinct names");
    }
    state.builder.finish()
}

struct State {
    builder: Builder,
    values: Vec<Value>,
    dtype: DType,
}

type Built = Result<Value, GraphError>;

impl State {
    fn params(&mut self) -> Result<(), GraphError> {
        let (b, three) = (Dim::symbol("b"), Dim::from(3));
        let batched = vec![b.clone(), 4.into(), three.clone()];
        let shapes = [
            batched,
            vec![b, 1.into(), three.clone()],
            vec![three],
            Vec::new(),
        ];
        for (index, shape) in shapes.into_iter().enumerate() {
            let ty = TensorType::new(self.dtype, shape);
            self.values
                .push(self.builder.input(&format!("x{index}"), ty)?);
        }
        let ty = TensorType::new(DType::I64, [4, 1]);
        self.values.push(self.builder.input("indices", ty)?);
        let ty = TensorType::new(self.dtype, [4, 3]);
        self.values.push(self.builder.weight("weight", ty)?);
        Ok(())
    }

    fn pick(&self, choice: u8) -> Value {
        // Later values more often: deep graphs find more.
        let (count, choice) = (self.values.len(), usize::from(choice));
        self.values[if choice < 64 {
            choice % count
        } else {
            count - 1 - choice % count.min(5)
        }]
    }

    fn number(&mut self, value: f64) -> Built {
        let tensor = Tensor::from_values(self.dtype, &[], &Values::Float(vec![value]));
        self.builder.constant(tensor)
    }

    fn push(&mut self, op: impl Into<Op>, operands: &[Value]) -> Built {
        self.builder.push(op, operands)
    }

    /// Any operator, often with operands that make it superfluous.
    fn node(&mut self, (kind, a, b, choice): Instruction) -> Built {
        let (x, y) = (self.pick(a), self.pick(b));
        let c = usize::from(choice);
        let rank = self.builder.ty(x).rank().max(1);
        let shape = self.builder.ty(x).shape.clone();
        match kind % 24 {
            0 => self.push(ops::Add, &[x, y]),
            1 => self.push(ops::Mul, &[x, y]),
            2 => self.push(ops::Div, &[x, y]),
            3 => self.push(ops::Neg, &[x]),
            4 => self.push(ops::Max, &[x, y]),
            5 => self.push(ops::Less, &[x, y]),
            6 => self.push(ops::Not, &[x]),
            7 => self.push(ops::Reciprocal, &[x]),
            8 => {
                let dtypes = [self.dtype, DType::F64, DType::F16, DType::I32, DType::I64];
                let dtype = dtypes[c % dtypes.len()];
                self.push(ops::Cast { dtype }, &[x])
            }
            9 => {
                let numbers = [0.0, 1.0, -0.0, 2.0, f64::NEG_INFINITY, 0.5];
                self.number(numbers[c % numbers.len()])
            }
            10 => {
                let tensor = Tensor::from_i64(&[3, 1], &[c as i64 % 5, 0, 1]);
                self.builder.constant(tensor)
            }
            11 => {
                let shape = if c.is_multiple_of(2) {
                    [vec![2.into()], shape].concat()
                } else {
                    shape
                };
                self.push(ops::Broadcast { shape }, &[x])
            }
            12 => self.push(ops::Concat { axis: c % rank }, &[x, y]),
            13 => self.push(ops::Concat { axis: c % rank }, &[x]),
            14 => {
                let axis = c % rank;
                let length = shape.get(axis).cloned().unwrap_or(1.into());
                let (start, length) = match c % 3 {
                    0 => (0.into(), length),
                    1 => (1.into(), 2.into()),
                    _ => (0.into(), 1.into()),
                };
                let step = 1;
                let slice = ops::Slice {
                    axis,
                    start,
                    length,
                    step,
                };
                self.push(slice, &[x])
            }
            15 => {
                let width = i64::from(choice % 2);
                let (before, after) = (vec![0; shape.len()], vec![width; shape.len()]);
                let mode = ops::PadMode::Constant;
                self.push(
                    ops::Pad {
                        before,
                        after,
                        mode,
                    },
                    &[x],
                )
            }
            16 => self.push(ops::Equal, &[x, y]),
            17 => {
                let condition = self.push(ops::LessEqual, &[x, x])?;
                self.push(ops::Select, &[condition, x, y])
            }
            18 => self.push(ops::Gather { axis: c % rank }, &[x, y]),
            19 => {
                let indices = Tensor::from_i64(&[2], &[c as i64 % 3, 1]);
                let indices = self.builder.constant(indices)?;
                self.push(ops::Gather { axis: c % rank }, &[x, indices])
            }
            20 => {
                let (length, dtype) = (Dim::from(3), self.dtype);
                self.push(ops::Iota { length, dtype }, &[])
            }
            21 => self.push(
                ops::ReduceSum {
                    axes: vec![c % rank],
                    keep: c % 4 < 2,
                },
                &[x],
            ),
            22 => self.push(
                ops::ReduceMax {
                    axes: vec![c % rank],
                    keep: c % 4 < 2,
                },
                &[x],
            ),
            _ => self.push(ops::Pow, &[x, y]),
        }
    }

    /// Operators and spellings that keep small errors small.
    fn smooth(&mut self, (kind, a, b, choice): Instruction) -> Built {
        let (x, y) = (self.pick(a), self.pick(b));
        let c = usize::from(choice);
        let shape = self.builder.ty(x).shape.clone();
        let rank = shape.len().max(1);
        match kind % 14 {
            0 => self.push(ops::Add, &[x, y]),
            1 => {
                let half = self.number(0.5)?;
                let both = self.push(ops::Sub, &[x, y])?;
                self.push(ops::Mul, &[half, both])
            }
            2 => self.push(ops::Tanh, &[x]),
            3 => self.times_sigmoid(x, y, c),
            4 => self.gelu(x, c),
            5 => self.layer_norm(x, y, c),
            6 => self.attention(x, y, c),
            7 => self.softmax(x, c % rank),
            8 => {
                let mut permutation: Vec<usize> = (0..shape.len()).collect();
                permutation.rotate_left(c % rank);
                self.push(ops::Transpose { permutation }, &[x])
            }
            9 => {
                let all = self.builder.ty(x).elements();
                let shape = if c.is_multiple_of(2) {
                    vec![all]
                } else {
                    [shape, vec![1.into()]].concat()
                };
                self.push(ops::Reshape { shape }, &[x])
            }
            10 => self.push(
                ops::ReduceMean {
                    axes: vec![c % rank],
                    keep: true,
                },
                &[x],
            ),
            11 => self.group_norm(x, y, c),
            12 => {
                let permutation = vec![1, 0];
                let flipped = self.push(ops::Transpose { permutation }, &[y])?;
                let product = self.push(ops::Matmul, &[x, flipped])?;
                let bias = self.pick(choice);
                self.push(ops::Add, &[product, bias]).or(Ok(product))
            }
            _ => self.geglu(x, c),
        }
    }

    fn times_sigmoid(&mut self, x: Value, y: Value, c: usize) -> Built {
        let factor = self.number(1.702)?;
        let argument = if c.is_multiple_of(2) {
            x
        } else {
            self.push(ops::Mul, &[x, factor])?
        };
        let gate = self.push(ops::Sigmoid, &[argument])?;
        self.push(ops::Mul, &[gate, if c % 8 < 7 { x } else { y }])
    }

    fn gelu(&mut self, x: Value, c: usize) -> Built {
        let (half, one) = (self.number(0.5)?, self.number(1.0)?);
        let root = self.number(std::f64::consts::SQRT_2)?;
        let scaled = self.push(ops::Div, &[x, root])?;
        let erf = self.push(ops::Erf, &[scaled])?;
        let gate = self.push(ops::Add, &[erf, one])?;
        let (first, second) = if c.is_multiple_of(2) {
            (x, half)
        } else {
            (half, x)
        };
        let product = self.push(ops::Mul, &[first, gate])?;
        self.push(ops::Mul, &[product, second])
    }

    fn layer_norm(&mut self, x: Value, y: Value, c: usize) -> Built {
        let rank = self.builder.ty(x).rank();
        let axes = vec![if c % 4 < 3 { rank.saturating_sub(1) } else { 0 }];
        let (epsilon, two) = (self.number(0.1)?, self.number(2.0)?);
        let mean = ops::ReduceMean { axes, keep: true };
        let centre = self.push(mean.clone(), &[x])?;
        let difference = self.push(ops::Sub, &[x, centre])?;
        let square = self.push(ops::Pow, &[difference, two])?;
        let variance = self.push(mean, &[square])?;
        let sum = self.push(ops::Add, &[variance, epsilon])?;
        let deviation = self.push(ops::Sqrt, &[sum])?;
        let norm = self.push(ops::Div, &[difference, deviation])?;
        let scaled = self.push(ops::Mul, &[norm, y]).unwrap_or(norm);
        self.push(ops::Add, &[scaled, y]).or(Ok(scaled))
    }

    fn group_norm(&mut self, x: Value, y: Value, c: usize) -> Built {
        let shape = self.builder.ty(x).shape.clone();
        let all = self.builder.ty(x).elements();
        let groups = if c.is_multiple_of(2) { 2 } else { 4 };
        let rest = shape.first().and_then(|batch| all.exact_div(batch));
        let rest = rest.and_then(|rest| rest.exact_div(&groups.into()));
        let (Some(batch), Some(rest)) = (shape.first(), rest) else {
            return Ok(x);
        };
        let inner = vec![batch.clone(), groups.into(), rest];
        let grouped = self.push(ops::Reshape { shape: inner }, &[x])?;
        let groups = groups as usize;
        let norm = self.push(
            ops::GroupNorm {
                groups,
                epsilon: 0.1,
            },
            &[grouped],
        )?;
        let back = self.push(ops::Reshape { shape }, &[norm])?;
        self.push(ops::Mul, &[back, y]).or(Ok(back))
    }

    fn softmax(&mut self, x: Value, axis: usize) -> Built {
        let axes = vec![axis];
        let max = ops::ReduceMax {
            axes: axes.clone(),
            keep: true,
        };
        let max = self.push(max, &[x])?;
        let shifted = self.push(ops::Sub, &[x, max])?;
        let exp = self.push(ops::Exp, &[shifted])?;
        let sum = self.push(ops::ReduceSum { axes, keep: true }, &[exp])?;
        self.push(ops::Div, &[exp, sum])
    }

    fn attention(&mut self, q: Value, k: Value, c: usize) -> Built {
        let mut permutation: Vec<usize> = (0..self.builder.ty(k).rank()).collect();
        if let [.., rows, columns] = permutation.as_mut_slice() {
            std::mem::swap(rows, columns);
        }
        let flipped = self.push(ops::Transpose { permutation }, &[k])?;
        let scores = self.push(ops::Matmul, &[q, flipped])?;
        let scale = self.number(0.25)?;
        let scores = self.push(ops::Mul, &[scores, scale])?;
        let mask = self.values[c % self.values.len()];
        let masked = self.push(ops::Add, &[scores, mask]).unwrap_or(scores);
        let axis = self.builder.ty(masked).rank().saturating_sub(1);
        let weights = self.push(ops::Softmax { axis }, &[masked])?;
        self.push(ops::Matmul, &[weights, k])
    }

    fn geglu(&mut self, x: Value, c: usize) -> Built {
        let axis = self.builder.ty(x).rank().saturating_sub(1);
        let x = self.push(ops::Concat { axis }, &[x, x])?;
        let whole = self.builder.ty(x).shape[axis].clone();
        let length = whole.exact_div(&2.into()).unwrap_or(1.into());
        let step = 1;
        let starts = [Dim::from(0), length.clone()];
        let mut halves = Vec::new();
        for start in starts {
            let length = length.clone();
            let half = ops::Slice {
                axis,
                start,
                length,
                step,
            };
            halves.push(self.push(half, &[x])?);
        }
        halves.rotate_left(c % 2);
        let gate = self.gelu(halves[1], c)?;
        self.push(ops::Mul, &[halves[0], gate])
    }
}
