//! Fused regions against the oracle: random small functions around each kind of anchor, in every
//! layout that an edge can have, computed by any candidate of any tile program.

use compiler::DType;
use compiler::graph::Role;

use super::{difference, params, program};
use crate::cpu::tests::{run_variant, variants};
use crate::cuda::PTX;
use crate::cuda::tests::check_texts;
use crate::webgpu::WGSL;
use crate::webgpu::tests::programs;

/// The attributes of a convolution that mixes channels only.
const ONE_BY_ONE: &str =
    "strides=[1, 1], pads_before=[0, 0], pads_after=[0, 0], dilations=[1, 1], groups=1";

/// A xorshift generator (Marsaglia 2003): enough to choose with.
struct Draws(u64);

impl Draws {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// The text of a function while it is written.
struct Text {
    lines: String,
    next: usize,
    dtype: DType,
    draws: Draws,
}

/// A value of the text with its extents.
#[derive(Clone)]
struct Value {
    number: usize,
    shape: Vec<usize>,
}

fn list(extents: &[usize]) -> String {
    format!("{extents:?}")
}

impl Text {
    fn new(dtype: DType, seed: usize) -> Text {
        let mixed = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let draws = Draws(mixed);
        let (lines, next) = ("func f {\n".to_owned(), 0);
        Text {
            lines,
            next,
            dtype,
            draws,
        }
    }

    fn push(&mut self, definition: &str, shape: &[usize]) -> Value {
        let number = self.next;
        self.next += 1;
        self.lines += &format!("  %{number} = {definition}\n");
        let shape = shape.to_vec();
        Value { number, shape }
    }

    fn param(&mut self, role: &str, shape: &[usize]) -> Value {
        let (number, dtype) = (self.next, self.dtype);
        self.push(
            &format!("{role} \"p{number}\" : {dtype}{}", list(shape)),
            shape,
        )
    }

    fn input(&mut self, shape: &[usize]) -> Value {
        self.param("input", shape)
    }

    fn weight(&mut self, shape: &[usize]) -> Value {
        self.param("weight", shape)
    }

    fn op(&mut self, op: &str, operands: &[&Value], attributes: &str, shape: &[usize]) -> Value {
        let operands: Vec<String> = operands.iter().map(|x| format!("%{}", x.number)).collect();
        self.push(
            &format!("{op}({}) {{{attributes}}}", operands.join(", ")),
            shape,
        )
    }

    fn finish(mut self, results: &[&Value]) -> String {
        for (position, value) in results.iter().enumerate() {
            self.lines += &format!("  return \"r{position}\" %{}\n", value.number);
        }
        self.lines + "}\n"
    }

    /// `[batch, channels, height, width]` that comes from inputs in one of many ways.
    fn image(&mut self, [batch, channels, height, width]: [usize; 4]) -> Value {
        let shape = [batch, channels, height, width];
        let even = height % 2 == 0 && width % 2 == 0;
        match self.draws.below(8) {
            0 if channels > 1 => {
                let first = 1 + self.draws.below(channels - 1);
                let a = self.input(&[batch, first, height, width]);
                let b = self.input(&[batch, channels - first, height, width]);
                self.op("concat", &[&a, &b], "axis=1", &shape)
            }
            1 if height > 1 && width > 2 => {
                let x = self.input(&[batch, channels, height - 1, width - 2]);
                let pad = "before=[0, 0, 1, 0], after=[0, 0, 0, 2], mode=\"constant\"";
                self.op("pad", &[&x], pad, &shape)
            }
            2 if even => {
                let x = self.input(&[batch, channels, height / 2, width / 2]);
                let size = format!("size=[{height}, {width}]");
                self.op("upsample_nearest", &[&x], &size, &shape)
            }
            3 => {
                let x = self.input(&[batch, channels + 3, height, width]);
                let slice = format!("axis=1, start=2, length={channels}, step=1");
                self.op("slice", &[&x], &slice, &shape)
            }
            4 => {
                let x = self.input(&[batch, height, width, channels]);
                self.op("transpose", &[&x], "permutation=[0, 3, 1, 2]", &shape)
            }
            5 => {
                let x = self.input(&shape);
                let normed = self.group_norm(&x);
                self.op("silu", &[&normed], "", &shape)
            }
            6 => {
                // What a convolution stores lies channels last.
                let x = self.input(&shape);
                let w = self.weight(&[channels, channels, 1, 1]);
                self.op("conv", &[&x, &w], ONE_BY_ONE, &shape)
            }
            _ => self.input(&shape),
        }
    }

    fn group_norm(&mut self, x: &Value) -> Value {
        let channels = x.shape[1];
        let groups = (1..=channels).filter(|&groups| channels.is_multiple_of(groups));
        let groups: Vec<usize> = groups.collect();
        let groups = self.draws.of(&groups);
        let (scale, shift) = (self.weight(&[channels]), self.weight(&[channels]));
        let attributes = format!("groups={groups}, epsilon=1e-2");
        self.op("group_norm", &[x, &scale, &shift], &attributes, &x.shape)
    }

    fn layer_norm(&mut self, x: &Value) -> Value {
        let width = x.shape[x.shape.len() - 1];
        let (scale, shift) = (self.weight(&[width]), self.weight(&[width]));
        let attributes = "axes=1, epsilon=1e-2";
        self.op("layer_norm", &[x, &scale, &shift], attributes, &x.shape)
    }

    fn linear(&mut self, x: &Value, features: usize) -> Value {
        let (&width, leading) = x.shape.split_last().expect("an axis");
        let role = self.draws.of(&["weight", "weight", "weight", "input"]);
        let w = self.param(role, &[features, width]);
        let shape = [leading, &[features]].concat();
        match self.draws.below(3) {
            0 => self.op("linear", &[x, &w], "", &shape),
            _ => {
                let bias = self.weight(&[features]);
                self.op("linear", &[x, &w, &bias], "", &shape)
            }
        }
    }

    /// What is done with each element of an image or of tokens.
    fn epilogue(&mut self, x: Value) -> Value {
        let shape = x.shape.clone();
        match self.draws.below(6) {
            0 => self.op("silu", &[&x], "", &shape),
            1 => {
                let other = self.input(&shape);
                self.op("add", &[&x, &other], "", &shape)
            }
            2 if shape.len() == 4 => {
                let embedding = self.input(&[shape[0], shape[1], 1, 1]);
                self.op("add", &[&x, &embedding], "", &shape)
            }
            3 => {
                let form = self.draws.of(&["erf", "tanh", "quick"]);
                self.op("gelu", &[&x], &format!("form=\"{form}\""), &shape)
            }
            4 => {
                let scale = self.input(&[]);
                let scaled = self.op("mul", &[&x, &scale], "", &shape);
                self.op("max", &[&scaled, &x], "", &shape)
            }
            _ => x,
        }
    }

    /// `[batch, positions, channels]` of an image.
    fn tokens(&mut self, x: &Value) -> Value {
        let [batch, channels, height, width] = [0, 1, 2, 3].map(|axis| x.shape[axis]);
        let last = [batch, height, width, channels];
        let x = self.op("transpose", &[x], "permutation=[0, 2, 3, 1]", &last);
        let shape = [batch, height * width, channels];
        let attributes = format!("shape={}", list(&shape));
        self.op("reshape", &[&x], &attributes, &shape)
    }

    /// `[batch, heads, positions, width]` of tokens.
    fn heads(&mut self, x: &Value, heads: usize) -> Value {
        let [batch, positions, channels] = [0, 1, 2].map(|axis| x.shape[axis]);
        let split = [batch, positions, heads, channels / heads];
        let x = self.op("reshape", &[x], &format!("shape={}", list(&split)), &split);
        let shape = [batch, heads, positions, channels / heads];
        self.op("transpose", &[&x], "permutation=[0, 2, 1, 3]", &shape)
    }
}

/// Convolutions with what comes before and after them.
fn convolution(mut text: Text) -> String {
    let draws = &mut text.draws;
    let (batch, groups) = (draws.of(&[1, 1, 2]), draws.of(&[1, 1, 1, 2]));
    let kernel = draws.of(&[1, 3, 3, 3, 2, 5]);
    let (stride, dilation) = match draws.below(3) {
        0 => (draws.of(&[1, 2, 3]), draws.of(&[1, 2])),
        _ => (1, 1),
    };
    let channels = groups * draws.of(&[1, 3, 4, 8, 17, 35]);
    let features = groups * draws.of(&[1, 4, 6, 16, 33, 40]);
    let extents = [1 + draws.below(11), 1 + draws.below(11)];
    let reach = dilation * (kernel - 1);
    let before = [draws.below(reach + 1), draws.below(reach + 1)];
    let after = [0, 1].map(|axis| reach - before[axis] + draws.below(2));
    let out = |axis: usize| (extents[axis] + before[axis] + after[axis] - reach - 1) / stride + 1;
    let shape = [batch, features, out(0), out(1)];
    let x = text.image([batch, channels, extents[0], extents[1]]);
    // A kernel that is not known when the program loads cannot be packed then.
    let role = text.draws.of(&["weight", "weight", "weight", "input"]);
    let w = text.param(role, &[features, channels / groups, kernel, kernel]);
    let bias = text.weight(&[features]);
    let attributes = format!(
        "strides=[{stride}, {stride}], pads_before={}, pads_after={}, dilations=[{dilation}, {dilation}], groups={groups}",
        list(&before),
        list(&after)
    );
    let x = match text.draws.below(3) {
        0 => text.op("conv", &[&x, &w], &attributes, &shape),
        _ => text.op("conv", &[&x, &w, &bias], &attributes, &shape),
    };
    let x = text.epilogue(x);
    match text.draws.below(5) {
        0 => {
            let normed = text.group_norm(&x);
            text.finish(&[&normed])
        }
        1 => {
            // Groups of a norm across the border between a convolution and an input's.
            let w = text.weight(&[2, features, 1, 1]);
            let two = [batch, 2, shape[2], shape[3]];
            let other = text.op("conv", &[&x, &w], ONE_BY_ONE, &two);
            let joined = [batch, features + 2, shape[2], shape[3]];
            let joined = text.op("concat", &[&x, &other], "axis=1", &joined);
            let normed = text.group_norm(&joined);
            text.finish(&[&normed, &x])
        }
        2 => {
            let tokens = text.tokens(&x);
            let normed = text.layer_norm(&tokens);
            let last = text.linear(&normed, 7);
            text.finish(&[&last])
        }
        3 => {
            let last = text.op(
                "transpose",
                &[&x],
                "permutation=[0, 2, 3, 1]",
                &[shape[0], shape[2], shape[3], shape[1]],
            );
            text.finish(&[&last])
        }
        _ => text.finish(&[&x]),
    }
}

/// Layers on tokens: pairs of columns, several layers of one operand, residuals.
fn linear(mut text: Text) -> String {
    let draws = &mut text.draws;
    let (batch, positions) = (draws.of(&[1, 2]), draws.of(&[1, 2, 7, 15, 30, 77]));
    let (width, features) = (draws.of(&[1, 8, 33, 70]), draws.of(&[1, 5, 16, 33, 80]));
    let mut x = text.input(&[batch, positions, width]);
    if text.draws.below(2) == 0 {
        x = text.layer_norm(&x);
    }
    match text.draws.below(4) {
        0 => {
            let wide = text.linear(&x, 2 * features);
            let paired = text.op("geglu", &[&wide], "", &[batch, positions, features]);
            let last = text.linear(&paired, 3);
            text.finish(&[&last])
        }
        1 => {
            let several: Vec<Value> = [features, 3, 40]
                .map(|count| text.linear(&x, count))
                .to_vec();
            let last = text.epilogue(several[1].clone());
            text.finish(&[&several[0], &last, &several[2]])
        }
        2 => {
            let other = text.input(&[batch, width, features]);
            let last = text.op("matmul", &[&x, &other], "", &[batch, positions, features]);
            let last = text.epilogue(last);
            text.finish(&[&last])
        }
        _ => {
            let last = text.linear(&x, features);
            let last = text.epilogue(last);
            text.finish(&[&last, &x])
        }
    }
}

/// Attention between projections, masked or causal, over the same tokens or a text's.
fn attention(mut text: Text) -> String {
    let draws = &mut text.draws;
    let (batch, heads) = (draws.of(&[1, 2]), draws.of(&[1, 2, 3]));
    let (width, positions) = (draws.of(&[1, 4, 8, 20, 40]), draws.of(&[1, 5, 16, 33, 130]));
    let channels = heads * width;
    let x = text.input(&[batch, positions, channels]);
    let crossed = text.draws.below(2) == 0;
    let (context, keys) = match crossed {
        true => {
            let keys = text.draws.of(&[1, 3, 77, 140]);
            (text.input(&[batch, keys, 6]), keys)
        }
        false => (x.clone(), positions),
    };
    let projected = [&x, &context, &context].map(|from| text.linear(from, channels));
    let mut operands = projected.map(|tokens| text.heads(&tokens, heads)).to_vec();
    match text.draws.below(4) {
        0 => operands.push(text.input(&[batch, 1, 1, keys])),
        1 => operands.push(text.input(&[positions, keys])),
        _ => {}
    }
    let causal = !crossed && text.draws.below(2) == 0;
    let shape = [batch, heads, positions, width];
    let operands: Vec<&Value> = operands.iter().collect();
    let attributes = format!("scale=0.3, causal={causal}");
    let seen = text.op("attention", &operands, &attributes, &shape);
    let swapped = [batch, positions, heads, width];
    let seen = text.op("transpose", &[&seen], "permutation=[0, 2, 1, 3]", &swapped);
    let attributes = format!("shape={}", list(&x.shape));
    let seen = text.op("reshape", &[&seen], &attributes, &x.shape);
    let last = text.linear(&seen, channels);
    let last = text.op("add", &[&last, &x], "", &x.shape);
    text.finish(&[&last])
}

/// Reductions and norms of whole rows, and what is element by element.
fn rows(mut text: Text) -> String {
    let draws = &mut text.draws;
    let [a, b, c] = [(); 3].map(|()| draws.of(&[1, 2, 5, 17, 40]));
    let image = text.draws.below(2) == 0;
    let x = match image {
        true => text.image([a.min(2), b, c, 3]),
        false => text.input(&[a, b, c]),
    };
    let x = text.epilogue(x);
    let axis = text.draws.below(x.shape.len());
    let mut kept = x.shape.clone();
    kept[axis] = 1;
    match text.draws.below(6) {
        0 => {
            let made = text.op("softmax", &[&x], &format!("axis={axis}"), &x.shape);
            text.finish(&[&made])
        }
        1 => {
            let op = text.draws.of(&["reduce_mean", "reduce_sum", "reduce_max"]);
            let reduced = text.op(op, &[&x], &format!("axes=[{axis}], keep=true"), &kept);
            let made = text.op("sub", &[&x, &reduced], "", &x.shape);
            text.finish(&[&made, &reduced])
        }
        2 if image => {
            let normed = text.group_norm(&x);
            let made = text.epilogue(normed);
            text.finish(&[&made])
        }
        3 => {
            let normed = text.layer_norm(&x);
            let made = text.epilogue(normed);
            text.finish(&[&made])
        }
        4 if image => {
            let tokens = text.tokens(&x);
            let made = text.epilogue(tokens);
            text.finish(&[&made, &x])
        }
        _ => {
            let broadcast = text.input(&kept);
            let made = text.op("mul", &[&x, &broadcast], "", &x.shape);
            let made = text.epilogue(made);
            text.finish(&[&made])
        }
    }
}

/// Any axes of tokens or images, in whatever order they lie, folded and then worked on.
fn folds(mut text: Text) -> String {
    let draws = &mut text.draws;
    let [a, b, c] = [(); 3].map(|()| draws.of(&[1, 2, 8, 17, 40, 130]));
    let x = match text.draws.below(3) {
        0 => text.input(&[a, b, c]),
        1 => text.image([a.min(2), b, c.min(17), 5]),
        _ => {
            let image = text.image([a.min(2), b, c.min(17), 5]);
            text.tokens(&image)
        }
    };
    let x = text.epilogue(x);
    let chosen: Vec<bool> = x.shape.iter().map(|_| text.draws.below(2) == 0).collect();
    let axes: Vec<usize> = (0..x.shape.len()).filter(|&axis| chosen[axis]).collect();
    let keep = text.draws.below(2) == 0;
    let extent = |axis: usize| match (chosen[axis], keep) {
        (false, _) => Some(x.shape[axis]),
        (true, keep) => keep.then_some(1),
    };
    let kept: Vec<usize> = (0..x.shape.len()).filter_map(extent).collect();
    let attributes = format!("axes={}, keep={keep}", list(&axes));
    let folded = match text
        .draws
        .of(&["dot", "reduce_mean", "reduce_sum", "reduce_max"])
    {
        "dot" => {
            let gate = text.op("sigmoid", &[&x], "", &x.shape);
            text.op("dot", &[&x, &gate], &attributes, &kept)
        }
        op => text.op(op, &[&x], &attributes, &kept),
    };
    let made = text.op("tanh", &[&folded], "", &kept);
    text.finish(&[&made, &x])
}

/// Many vectors of all origins joined, and read in part and whole.
fn joined(mut text: Text) -> String {
    let image = text.image([2, 3, 5, 5]);
    let tokens = text.input(&[7, 12]);
    let linear = text.linear(&tokens, 9);
    let mut pieces = vec![image.clone(), linear.clone(), tokens.clone()];
    pieces.push(text.op(
        "reduce_sum",
        &[&image],
        "axes=[0, 2, 3], keep=false",
        &image.shape[1..2],
    ));
    pieces.push(text.op("transpose", &[&linear], "permutation=[1, 0]", &[9, 7]));
    pieces.push(text.op("silu", &[&tokens], "", &[7, 12]));
    let extra = text.draws.below(3);
    pieces.extend((0..extra).map(|_| text.input(&[3])));
    let count = |value: &Value| value.shape.iter().product::<usize>();
    let flat: Vec<Value> = pieces
        .iter()
        .map(|piece| {
            let shape = [count(piece)];
            text.op(
                "reshape",
                &[piece],
                &format!("shape={}", list(&shape)),
                &shape,
            )
        })
        .collect();
    let all: usize = flat.iter().map(count).sum();
    let whole = text.op("concat", &flat.iter().collect::<Vec<_>>(), "axis=0", &[all]);
    let part = text.op(
        "slice",
        &[&whole],
        &format!("axis=0, start=5, length={}, step=1", all - 9),
        &[all - 9],
    );
    let made = text.op("tanh", &[&part], "", &[all - 9]);
    let norm = text.op("dot", &[&whole, &whole], "axes=[0], keep=false", &[]);
    match text.draws.below(2) {
        0 => text.finish(&[&made, &norm]),
        _ => text.finish(&[&made, &norm, &whole, &linear]),
    }
}

/// How far results may lie from the oracle's, relative to their largest magnitude: it rounds to
/// the type after each operator, kernels when they store.
fn tolerance(dtype: DType, exact: bool) -> f64 {
    match (dtype, exact) {
        (DType::F16, _) => 1e-2,
        (DType::BF16, _) => 6e-2,
        (_, true) => 2e-5,
        // Transforms to 4×4 results amplify errors by their constants.
        (_, false) => 2e-4,
    }
}

/// Functions of one kind in one type.
fn check(kind: fn(Text) -> String, dtype: DType, count: usize) {
    for seed in 0..count {
        let text = kind(Text::new(dtype, seed));
        let program = program(&text);
        let (inputs, weights) = (
            params(program.func(), Role::Input),
            params(program.func(), Role::Weight),
        );
        for (dialect, shader_f16) in [(&WGSL, seed % 2 == 1), (&PTX, true)] {
            let given = [&inputs, &weights];
            let found = programs::interpreted(&program, given, dialect, shader_f16);
            let difference = difference(&program, &inputs, &found, tolerance(dtype, true));
            if let Some(difference) = difference {
                panic!("{text}seed {seed}, {} kernels: {difference}", dialect.name);
            }
        }
        check_texts(&program);
        for exact in [true, false] {
            let variants = variants(&program, exact);
            // The fastest one, and two others that differ from case to case.
            for variant in [0, seed, seed * 7 + 3].map(|number| number % variants.max(1)) {
                let found = run_variant(&program, [&inputs, &weights], exact, 2, variant);
                let difference = difference(&program, &inputs, &found, tolerance(dtype, exact));
                if let Some(difference) = difference {
                    panic!("{text}seed {seed}, variant {variant}, exact {exact}: {difference}");
                }
            }
        }
    }
}

/// Blocks of queries begin anywhere, those of packed weights at whole panels.
#[test]
fn queries_that_are_weights() {
    let text = |_: Text| {
        r#"func f {
  %0 = weight "q" : f32[1, 2, 75, 8]
  %1 = input "k" : f32[1, 2, 9, 8]
  %2 = input "v" : f32[1, 2, 9, 8]
  %3 = attention(%0, %1, %2) {scale=0.3, causal=false}
  return "r" %3
}
"#
        .to_owned()
    };
    check(text, DType::F32, 9);
}

#[test]
fn convolutions() {
    check(convolution, DType::F32, 300);
    check(convolution, DType::F16, 20);
    check(convolution, DType::BF16, 20);
}

#[test]
fn linear_layers() {
    check(linear, DType::F32, 150);
    check(linear, DType::F16, 15);
    check(linear, DType::BF16, 15);
}

#[test]
fn attentions() {
    check(attention, DType::F32, 120);
    check(attention, DType::F16, 15);
    check(attention, DType::BF16, 15);
}

#[test]
fn rows_and_elements() {
    check(rows, DType::F32, 200);
    check(rows, DType::F16, 20);
    check(rows, DType::BF16, 20);
}

#[test]
fn joined_vectors() {
    check(joined, DType::F32, 12);
    check(joined, DType::F16, 4);
}

#[test]
fn folds_of_all_axes() {
    check(folds, DType::F32, 150);
    check(folds, DType::F16, 20);
    check(folds, DType::BF16, 20);
}

/// Rows that threads share.
fn long_rows(mut text: Text) -> String {
    let row = text.input(&[100_003]);
    let pixels = text.input(&[2, 7001, 16]);
    let attributes = "axes=[0], keep=false";
    let results = [
        text.op("reduce_sum", &[&row], attributes, &[]),
        text.op("dot", &[&row, &row], attributes, &[]),
        text.op("reduce_max", &[&row], attributes, &[]),
        text.op("reduce_mean", &[&pixels], "axes=[0, 1], keep=false", &[16]),
        text.op("dot", &[&pixels, &pixels], "axes=[1], keep=false", &[2, 16]),
    ];
    text.finish(&results.each_ref())
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (kind, seeds) in [
        (convolution as fn(Text) -> String, 0..12),
        (attention, 0..4),
        (linear, 0..4),
        (rows, 0..6),
        (folds, 0..12),
        (long_rows, 0..1),
        (joined, 0..2),
    ] {
        for seed in seeds {
            let text = kind(Text::new(DType::F32, seed));
            let program = program(&text);
            let (inputs, weights) = (
                params(program.func(), Role::Input),
                params(program.func(), Role::Weight),
            );
            let run = |threads| run_variant(&program, [&inputs, &weights], false, threads, seed);
            let wanted = run(1);
            for threads in [2, 5] {
                assert_eq!(run(threads), wanted, "{text}{threads} threads");
            }
        }
    }
}
