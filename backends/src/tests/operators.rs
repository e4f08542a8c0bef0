//! Operators alone, in sizes that fill no tile and in all types.

use compiler::DType;
use compiler::graph::{Definition, Role};
use compiler::program::Program;
use compiler::value::tensor::Tensor;

use super::{Named, difference, params, program, rounding};
use crate::cpu::tests::{run_variant, variants};
use crate::cuda::PTX;
use crate::cuda::tests::check_texts;
use crate::webgpu::WGSL;
use crate::webgpu::tests::programs;

/// Runs a program as it is chosen, with direct sums and without, and its kernels in the
/// interpreter.
fn compare(text: &str, inputs: Option<Named>, tolerance: f64) {
    let program = program(text);
    let inputs = inputs.unwrap_or_else(|| params(program.func(), Role::Input));
    let weights = params(program.func(), Role::Weight);
    compare_cpu(text, &program, &inputs, tolerance);
    // Kernels promise nothing where a result is not a number.
    if !program.text().contains("pow") && !holds_not_finite(&inputs) {
        for (dialect, shader_f16) in [(&WGSL, false), (&WGSL, true), (&PTX, true)] {
            let given = [&inputs, &weights];
            let found = programs::interpreted(&program, given, dialect, shader_f16);
            if let Some(difference) = difference(&program, &inputs, &found, 2.0 * tolerance) {
                let name = dialect.name;
                panic!("{text}{name} kernels, 16-bit floats {shader_f16}: {difference}");
            }
        }
        check_texts(&program);
        // Devices may be off by some units in the last place in each function.
        #[cfg(feature = "webgpu")]
        if let Some(found) = programs::computed(&program, [&inputs, &weights])
            && let Some(difference) = difference(&program, &inputs, &found, 10.0 * tolerance)
        {
            panic!("{text}device: {difference}");
        }
    }
}

/// Runs a program on the CPU as it is chosen, with direct sums and without.
fn compare_cpu(text: &str, program: &Program, inputs: &Named, tolerance: f64) {
    let weights = params(program.func(), Role::Weight);
    for exact in [true, false] {
        let found = run_variant(program, [inputs, &weights], exact, 2, 0);
        let tolerance = if exact { tolerance } else { 10.0 * tolerance };
        if let Some(difference) = difference(program, inputs, &found, tolerance) {
            panic!("{text}exact {exact}: {difference}");
        }
    }
}

/// Whether inputs hold infinities or NaN.
fn holds_not_finite(inputs: &Named) -> bool {
    inputs.values().any(|tensor| tensor.not_finite() > 0)
}

/// Checks one operator, given as `op(type; …) {attributes}` with names in single quotes.
fn check(case: &str) {
    let (name, rest) = case.split_once('(').expect("operands");
    let (types, attributes) = rest.split_once(')').expect("the end of operands");
    let attributes = attributes.replace('\'', "\"");
    let mut text = format!("func \"{case}\" {{\n");
    let mut operands = Vec::new();
    for (i, ty) in types
        .split(';')
        .map(str::trim)
        .filter(|ty| !ty.is_empty())
        .enumerate()
    {
        text += &format!("  %{i} = input \"x{i}\" : {ty}\n");
        operands.push(format!("%{i}"));
    }
    let (count, list) = (operands.len(), operands.join(", "));
    text += &format!("  %{count} = {name}({list}){attributes}\n  return \"out\" %{count}\n}}\n");
    let program = program(&text);
    let (_, data) = program.func().values().last().expect("the operator");
    let Definition::Node(node) = &data.definition else {
        panic!("the last value is the operator");
    };
    let tolerance = node.op.tolerance().max(rounding(data.ty.dtype));
    compare(&text, None, tolerance);
}

#[test]
fn pointwise_operators() {
    let one = "abs neg exp log sqrt reciprocal floor ceil sin cos erf tanh sigmoid relu silu";
    for op in one.split(' ') {
        for ty in [
            "f32[3, 5]",
            "f16[70]",
            "bf16[9]",
            "f64[4]",
            "f32[]",
            "f32[0, 3]",
            "f32[40000]",
        ] {
            check(&format!("{op}({ty})"));
        }
    }
    for form in ["erf", "tanh", "quick"] {
        check(&format!("gelu(f32[1000]) {{form='{form}'}}"));
    }
    for op in "add sub mul div pow max min".split(' ') {
        for ty in [
            "f32[3, 5]; f32[3, 5]",
            "f32[3, 5]; f32[]",
            "f32[]; f32[3, 5]",
            "f32[2, 1, 4]; f32[3, 1]",
            "f32[1, 4, 1, 1]; f32[2, 4, 3, 3]",
            "f32[2, 4, 3, 3]; f32[2, 4, 1, 1]",
            "f32[200, 300]; f32[300]",
            "f32[0, 3]; f32[3]",
            "f16[5]; f16[5]",
            "f64[5]; f64[1]",
        ] {
            check(&format!("{op}({ty})"));
        }
    }
    check("add(i32[4]; i32[4])");
    check("less(f32[4, 1]; f32[4])");
    check("select(bool[3, 1]; f32[1, 4]; f32[3, 4])");
    check("geglu(f32[2, 3, 10])");
    check("geglu(f32[2, 0])");
    check("geglu(f32[40, 2000])");
}

#[test]
fn casts() {
    for (from, to) in [
        ("f32", "f16"),
        ("f16", "f32"),
        ("f32", "bf16"),
        ("f32", "f64"),
        ("f64", "f32"),
        ("i64", "f32"),
        ("f32", "i32"),
        ("f16", "bool"),
        ("bool", "f32"),
    ] {
        check(&format!("cast({from}[3, 7]) {{dtype={to}}}"));
    }
}

#[test]
fn movement() {
    for case in [
        "reshape(f32[2, 6]) {shape=[3, 4]}",
        "reshape(i64[2, 6]) {shape=[12]}",
        "transpose(f32[2, 3, 4, 5]) {permutation=[0, 2, 1, 3]}",
        "transpose(f32[2, 3, 4]) {permutation=[2, 1, 0]}",
        "transpose(f32[2, 0, 4]) {permutation=[2, 1, 0]}",
        "transpose(f32[300, 200]) {permutation=[1, 0]}",
        "transpose(f32[]) {permutation=[]}",
        "broadcast(f32[3, 1]) {shape=[2, 3, 4]}",
        "broadcast(f32[]) {shape=[2, 0]}",
        "broadcast(bool[2]) {shape=[3, 2]}",
        "concat(f32[2, 3]; f32[2, 1]; f32[2, 0]) {axis=1}",
        "concat(f32[2, 3]; f32[1, 3]) {axis=0}",
        "concat(f16[2, 3, 2]; f16[2, 1, 2]) {axis=1}",
        "slice(f32[2, 5]) {axis=1, start=1, length=3, step=1}",
        "slice(f32[5, 2]) {axis=0, start=4, length=3, step=-2}",
        "slice(f32[5, 2]) {axis=0, start=2, length=1, step=-9223372036854775808}",
        "slice(f32[5]) {axis=0, start=900, length=0, step=1}",
        "pad(f32[2, 3]) {before=[1, 0], after=[0, 2], mode='constant'}",
        "pad(f32[2, 3]; f32[]) {before=[1, 0], after=[0, 2], mode='constant'}",
        "pad(f32[]) {before=[], after=[], mode='constant'}",
        "pad(f32[0]) {before=[2], after=[0], mode='constant'}",
        "pad(f32[2, 3]) {before=[1, 0], after=[0, 2], mode='reflect'}",
        "gather(f32[4, 3]; i64[2, 2]) {axis=0}",
        "gather(f32[2, 4, 3]; i32[5]) {axis=1}",
        "gather(f32[4, 3]; i64[0]) {axis=0}",
        "gather(f32[4, 0]; i64[2]) {axis=0}",
        "gather(i64[4]; i64[]) {axis=0}",
        "upsample_nearest(f32[2, 3, 4, 5]) {size=[8, 10]}",
        "upsample_nearest(f32[1, 2, 4]) {size=[3]}",
        "upsample_nearest(f32[1, 2, 3, 3, 3]) {size=[4, 6, 3]}",
        "iota() {length=5, dtype=f32}",
        "trilu(f32[3, 3]) {upper=true, diagonal=0}",
        "argmax(f32[3, 4]) {axis=1, last=false}",
    ] {
        check(case);
    }
}

#[test]
fn contractions() {
    for case in [
        "linear(f32[2, 3, 8]; f32[5, 8]; f32[5])",
        "linear(f32[7]; f32[5, 7])",
        "linear(f32[3, 0]; f32[5, 0]; f32[5])",
        "linear(f32[0, 4]; f32[5, 4]; f32[5])",
        "linear(f32[3, 4]; f32[0, 4])",
        "linear(f16[3, 40]; f16[5, 40]; f16[5])",
        "linear(f64[3, 4]; f64[5, 4])",
        "matmul(f32[3, 4]; f32[4, 5])",
        "matmul(f32[2, 1, 3, 4]; f32[6, 4, 5])",
        "matmul(f32[2, 3, 0]; f32[2, 0, 5])",
        "matmul(f32[0, 3, 2]; f32[2, 5])",
        "matmul(i64[3, 4]; i64[4, 5])",
        "conv(f32[2, 3, 5, 6]; f32[4, 3, 3, 3]; f32[4]) {strides=[1, 1], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1], groups=1}",
        "conv(f32[1, 3, 6, 7]; f32[4, 3, 3, 2]) {strides=[2, 3], pads_before=[0, 2], pads_after=[1, 0], dilations=[1, 2], groups=1}",
        "conv(f32[2, 4, 5, 5]; f32[6, 2, 3, 3]; f32[6]) {strides=[1, 1], pads_before=[0, 1], pads_after=[2, 1], dilations=[2, 2], groups=2}",
        "conv(f32[2, 4, 3, 3]; f32[6, 4, 1, 1]; f32[6]) {strides=[1, 1], pads_before=[0, 0], pads_after=[0, 0], dilations=[1, 1], groups=1}",
        "conv(f32[1, 2, 3, 3]; f32[3, 2, 1, 1]) {strides=[2, 2], pads_before=[5, 0], pads_after=[0, 6], dilations=[1, 1], groups=1}",
        "conv(f32[1, 2, 2, 2]; f32[3, 2, 5, 5]) {strides=[1, 1], pads_before=[4, 4], pads_after=[4, 4], dilations=[1, 1], groups=1}",
        "conv(f32[1, 16, 40, 40]; f32[8, 16, 3, 3]; f32[8]) {strides=[1, 1], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1], groups=1}",
        "conv(f32[1, 2, 5]; f32[3, 2, 3]) {strides=[1], pads_before=[1], pads_after=[1], dilations=[1], groups=1}",
        "conv(f16[1, 2, 5, 5]; f16[3, 2, 3, 3]) {strides=[1, 1], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1], groups=1}",
    ] {
        check(case);
    }
}

#[test]
fn gradients_of_convolutions() {
    let plain = "strides=[1, 1], pads_before=[0, 0], pads_after=[0, 0], dilations=[1, 1]";
    let padded = "strides=[1, 1], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1]";
    let halved = "strides=[2, 2], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1]";
    let behind = "strides=[2, 2], pads_before=[0, 0], pads_after=[1, 1], dilations=[1, 1]";
    let uneven = "strides=[1, 3], pads_before=[3, 0], pads_after=[0, 2], dilations=[2, 1]";
    let both = "strides=[2, 1], pads_before=[0, 0], pads_after=[1, 1], dilations=[2, 3]";
    // Convolutions of `[batch, channels, height, width]` with `[features, height, width]`, and the
    // positions that they have.
    for (lists, [n, c, h, w], [o, kh, kw], [ph, pw], groups) in [
        (padded, [2, 3, 5, 6], [4, 3, 3], [5, 6], 1),
        (padded, [2, 16, 12, 9], [40, 3, 3], [12, 9], 1),
        (padded, [1, 4, 5, 5], [6, 3, 3], [5, 5], 2),
        (plain, [2, 3, 4, 5], [7, 1, 1], [4, 5], 1),
        (plain, [2, 3, 4, 5], [7, 4, 5], [1, 1], 1),
        (halved, [2, 3, 8, 8], [5, 3, 3], [4, 4], 1),
        (halved, [1, 4, 7, 8], [6, 3, 3], [4, 4], 2),
        (behind, [1, 34, 8, 6], [3, 3, 3], [4, 3], 1),
        (uneven, [1, 3, 6, 8], [4, 2, 2], [7, 3], 1),
        (both, [1, 3, 7, 8], [4, 2, 3], [3, 3], 1),
        (plain, [0, 3, 4, 4], [2, 3, 3], [2, 2], 1),
    ] {
        let depth = c / groups;
        for ty in ["f32", "f16"] {
            check(&format!(
                "conv_transpose({ty}[{n}, {o}, {ph}, {pw}]; {ty}[{o}, {depth}, {kh}, {kw}]) \
                 {{{lists}, groups={groups}, extents=[{h}, {w}]}}"
            ));
            check(&format!(
                "conv_weight_gradient({ty}[{n}, {c}, {h}, {w}]; {ty}[{n}, {o}, {ph}, {pw}]) \
                 {{{lists}, groups={groups}, kernel=[{kh}, {kw}]}}"
            ));
        }
    }
}

/// Weights that change from run to run, each a part of one flat tensor, by every program.
#[test]
fn convolutions_by_parts_of_one_tensor() {
    let lists = "strides=[1, 1], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1], groups=1";
    for [c, o, h, w] in [[3, 4, 5, 6], [40, 33, 9, 8], [64, 96, 16, 17]] {
        let count = c * o * 9;
        let text = format!(
            "func f {{
                %0 = input \"x\" : f32[2, {c}, {h}, {w}]
                %1 = input \"dr\" : f32[2, {o}, {h}, {w}]
                %2 = input \"flat\" : f32[{}]
                %3 = slice(%2) {{axis=0, start=7, length={count}, step=1}}
                %4 = reshape(%3) {{shape=[{o}, {c}, 3, 3]}}
                %5 = conv(%0, %4) {{{lists}}}
                %6 = conv_transpose(%1, %4) {{{lists}, extents=[{h}, {w}]}}
                return \"r\" %5
                return \"dx\" %6
            }}",
            count + 12
        );
        let program = program(&text);
        let inputs = params(program.func(), Role::Input);
        for variant in 0..variants(&program, false) {
            let found = run_variant(&program, [&inputs, &Named::new()], false, 2, variant);
            if let Some(difference) = difference(&program, &inputs, &found, 1e-4) {
                panic!("{text} variant {variant}: {difference}");
            }
        }
    }
}

/// Every program, whatever it predicts of itself.
#[test]
fn gradients_of_kernels_by_any_program() {
    for ([n, c, h, w], o, pads) in [
        ([2, 3, 5, 6], 4, "pads_before=[1, 1], pads_after=[1, 1]"),
        ([3, 40, 9, 8], 17, "pads_before=[1, 1], pads_after=[1, 1]"),
        ([1, 64, 8, 12], 30, "pads_before=[0, 2], pads_after=[2, 0]"),
    ] {
        let lists = format!("strides=[1, 1], {pads}, dilations=[1, 1], groups=1, kernel=[3, 3]");
        // As it is given, and channels last.
        for move_last in [false, true] {
            let moved = match move_last {
                true => format!("f32[{n}, {h}, {w}, {c}]"),
                false => format!("f32[{n}, {c}, {h}, {w}]"),
            };
            let read = match move_last {
                true => "transpose(%0) {permutation=[0, 3, 1, 2]}",
                false => "neg(%0)",
            };
            let text = format!(
                "func f {{
                    %0 = input \"x\" : {moved}
                    %1 = input \"dr\" : f32[{n}, {o}, {h}, {w}]
                    %2 = {read}
                    %3 = conv_weight_gradient(%2, %1) {{{lists}}}
                    return \"dw\" %3
                }}"
            );
            let program = program(&text);
            let inputs = params(program.func(), Role::Input);
            for variant in 0..variants(&program, false) {
                let found = run_variant(&program, [&inputs, &Named::new()], false, 2, variant);
                if let Some(difference) = difference(&program, &inputs, &found, 1e-4) {
                    panic!("{text} variant {variant}: {difference}");
                }
            }
        }
    }
}

#[test]
fn attention() {
    for case in [
        "attention(f32[2, 3, 5, 8]; f32[2, 3, 7, 8]; f32[2, 3, 7, 4]) {scale=0.5, causal=false}",
        "attention(f32[1, 2, 90, 8]; f32[1, 2, 90, 8]; f32[1, 2, 90, 8]) {scale=0.3, causal=true}",
        "attention(f32[1, 2, 9, 4]; f32[1, 2, 3, 4]; f32[1, 2, 3, 4]) {scale=0.3, causal=true}",
        "attention(f32[2, 2, 4, 4]; f32[2, 2, 4, 4]; f32[2, 2, 4, 4]; f32[2, 1, 4, 1]) {scale=1.0, causal=false}",
        "attention(f32[1, 2, 4, 4]; f32[1, 2, 4, 4]; f32[1, 2, 4, 4]; bool[4, 4]) {scale=1.0, causal=true}",
        "attention(f32[1, 2, 4, 4]; f32[1, 2, 4, 4]; f32[1, 2, 4, 4]; f32[2, 1, 4]) {scale=1.0, causal=false}",
        "attention(f32[1, 2, 4, 4]; f32[1, 2, 0, 4]; f32[1, 2, 0, 4]) {scale=1.0, causal=false}",
        "attention(f32[1, 2, 4, 4]; f32[1, 2, 3, 4]; f32[1, 2, 3, 0]) {scale=1.0, causal=false}",
        "attention(f16[1, 2, 4, 4]; f16[1, 2, 3, 4]; f16[1, 2, 3, 2]) {scale=1.0, causal=false}",
        // Whole fragments, widths that fill none, parts of keys, and masks.
        "attention(f16[1, 2, 64, 40]; f16[1, 2, 77, 40]; f16[1, 2, 77, 40]) {scale=0.2, causal=false}",
        "attention(bf16[2, 1, 80, 16]; bf16[2, 1, 80, 16]; bf16[2, 1, 80, 16]) {scale=0.3, causal=true}",
        "attention(f16[1, 1, 48, 12]; f16[1, 1, 20, 12]; f16[1, 1, 20, 24]) {scale=0.3, causal=false}",
        "attention(f16[1, 2, 37, 8]; f16[1, 2, 50, 8]; f16[1, 2, 50, 8]; f16[37, 50]) {scale=0.5, causal=false}",
        "attention(f16[1, 1, 32, 8]; f16[1, 1, 32, 8]; f16[1, 1, 32, 8]; bool[32, 32]) {scale=0.5, causal=false}",
        "attention(f16[1, 1, 128, 160]; f16[1, 1, 64, 160]; f16[1, 1, 64, 160]) {scale=0.1, causal=false}",
    ] {
        check(case);
    }
}

#[test]
fn logarithms_of_sums() {
    for case in [
        "attention_log_sum(f32[2, 3, 5, 8]; f32[2, 3, 7, 8]) {scale=0.5, causal=false}",
        "attention_log_sum(f32[1, 2, 90, 8]; f32[1, 2, 90, 8]) {scale=0.3, causal=true}",
        "attention_log_sum(f32[1, 2, 9, 4]; f32[1, 2, 3, 4]) {scale=0.3, causal=true}",
        "attention_log_sum(f32[2, 2, 4, 4]; f32[2, 2, 4, 4]; f32[2, 1, 4, 1]) {scale=1.0, causal=false}",
        "attention_log_sum(f32[1, 2, 4, 4]; f32[1, 2, 4, 4]; bool[4, 4]) {scale=1.0, causal=true}",
        "attention_log_sum(f32[1, 2, 4, 4]; f32[1, 2, 4, 4]; f32[2, 1, 4]) {scale=-1.0, causal=false}",
        "attention_log_sum(f32[1, 2, 1, 4]; f32[1, 2, 1, 4]) {scale=1.0, causal=false}",
        "attention_log_sum(f32[1, 2, 4, 4]; f32[1, 2, 0, 4]) {scale=1.0, causal=false}",
        "attention_log_sum(f32[1, 2, 4, 0]; f32[1, 2, 3, 0]) {scale=1.0, causal=false}",
        "attention_log_sum(f16[1, 2, 4, 4]; f16[1, 2, 3, 4]) {scale=1.0, causal=false}",
        "attention_log_sum(bf16[1, 2, 4, 4]; bf16[1, 2, 3, 4]) {scale=1.0, causal=false}",
        "attention_log_sum(f64[1, 2, 4, 4]; f64[1, 2, 3, 4]) {scale=1.0, causal=false}",
    ] {
        check(case);
    }
}

/// The gradient of attention on `[batch, heads, queries, keys, d, e]`, the weights made from the
/// same operands.
fn attention_gradient(
    dtype: &str,
    [batch, heads, queries, keys, d, e]: [usize; 6],
    attributes: &str,
    mask: &str,
) {
    let scores = format!("{{{attributes}}}");
    let (given, mask) = match mask {
        "" => (String::new(), ""),
        ty => (format!("  %6 = input \"mask\" : {ty}\n"), ", %6"),
    };
    let first = if mask.is_empty() { 6 } else { 7 };
    let [sums, r] = [first, first + 1].map(|value| format!("%{value}"));
    let text = format!(
        "func gradient {{
  %0 = input \"q\" : {dtype}[{batch}, {heads}, {queries}, {d}]
  %1 = input \"k\" : {dtype}[{batch}, {heads}, {keys}, {d}]
  %2 = input \"v\" : {dtype}[{batch}, {heads}, {keys}, {e}]
  %3 = input \"dr\" : {dtype}[{batch}, {heads}, {queries}, {e}]
  %4 = silu(%0)
  %5 = neg(%3)
{given}  {sums} = attention_log_sum(%4, %1{mask}) {scores}
  {r} = attention(%4, %1, %2{mask}) {scores}
  %{last} = attention_gradient(%4, %1, %2, {sums}, {r}, %5{mask}) {scores}
  return \"out\" %{last}
}}
",
        last = first + 2,
    );
    let dtype = DType::from_name(dtype).expect("an element type");
    // In 16 bits the attention's own result is rounded before it is read.
    let tolerance = rounding(dtype).max(1e-5);
    // Kernels compute each element on its own.
    if batch * heads * queries * keys * d * e > 10_000 {
        let program = program(&text);
        let inputs = params(program.func(), Role::Input);
        for variant in 0..variants(&program, true) {
            let found = run_variant(&program, [&inputs, &Named::new()], true, 2, variant);
            if let Some(difference) = difference(&program, &inputs, &found, tolerance) {
                panic!("{text}variant {variant}: {difference}");
            }
        }
    } else {
        compare(&text, None, tolerance);
    }
}

#[test]
fn gradients_of_attention() {
    let plain = "scale=0.5, causal=false";
    let causal = "scale=0.3, causal=true";
    for sizes in [
        [2, 1, 5, 7, 8, 8],
        [1, 2, 9, 3, 4, 6],
        [1, 2, 5, 33, 20, 3],
        [2, 2, 40, 35, 8, 8],
        [1, 1, 300, 290, 16, 70],
        [1, 1, 1, 1, 1, 1],
        [1, 2, 4, 1, 4, 4],
        [1, 2, 1, 6, 4, 4],
        [1, 1, 70, 77, 40, 40],
        [1, 2, 3, 0, 4, 4],
        [0, 2, 3, 4, 4, 4],
        [1, 2, 3, 4, 4, 0],
        [1, 2, 3, 4, 0, 4],
    ] {
        attention_gradient("f32", sizes, plain, "");
        attention_gradient("f32", sizes, causal, "");
    }
    let sizes = [2, 2, 5, 6, 4, 3];
    for mask in [
        "f32[2, 1, 5, 1]",
        "f32[6]",
        "f32[1, 2, 1, 6]",
        "bool[5, 1]",
        "bool[5, 6]",
    ] {
        attention_gradient("f32", sizes, plain, mask);
        attention_gradient("f32", sizes, causal, mask);
        attention_gradient("f32", sizes, "scale=-0.5, causal=false", mask);
    }
    for dtype in ["f16", "bf16", "f64"] {
        attention_gradient(dtype, sizes, plain, "");
        attention_gradient(dtype, sizes, causal, "bool[5, 6]");
    }
}

#[test]
fn rows() {
    for case in [
        "softmax(f32[3, 70]) {axis=1}",
        "softmax(f32[3, 4, 2]) {axis=1}",
        "softmax(f32[3, 0]) {axis=1}",
        "layer_norm(f32[3, 70]; f32[70]; f32[70]) {axes=1, epsilon=1e-5}",
        "layer_norm(f32[3, 4, 5]) {axes=2, epsilon=1e-5}",
        "layer_norm(f32[3, 0]) {axes=1, epsilon=1e-5}",
        "group_norm(f32[2, 6, 5, 3]; f32[6]; f32[6]) {groups=3, epsilon=1e-5}",
        "group_norm(f32[2, 6]) {groups=2, epsilon=1e-5}",
        "group_norm(f32[2, 6, 0]) {groups=2, epsilon=1e-5}",
        "group_norm(f16[2, 6, 9]; f16[6]) {groups=2, epsilon=1e-5}",
        "group_statistics(f32[2, 6, 5, 3]) {groups=3, epsilon=1e-5}",
        "group_statistics(f16[2, 6]) {groups=2, epsilon=1e-5}",
        "group_statistics(f64[2, 6, 3]) {groups=2, epsilon=1e-5}",
        "group_statistics(f32[2, 6, 0]) {groups=2, epsilon=1e-5}",
        "group_statistics(f32[0, 6, 4]) {groups=2, epsilon=1e-5}",
        "dot(f32[3, 4, 5]; f32[3, 4, 5]) {axes=[1, 2], keep=false}",
        "dot(f32[3, 4, 5]; f32[3, 4, 5]) {axes=[0], keep=true}",
        "dot(f16[3, 70]; f16[3, 70]) {axes=[0, 1], keep=false}",
        "dot(f64[3, 4]; f64[3, 4]) {axes=[1], keep=false}",
        "dot(f32[3, 4]; f32[3, 4]) {axes=[], keep=true}",
        "dot(f32[3, 0]; f32[3, 0]) {axes=[1], keep=true}",
        "dot(f32[5, 3, 16]; f32[5, 3, 16]) {axes=[0, 1], keep=false}",
        "dot(f32[40000]; f32[40000]) {axes=[0], keep=false}",
        "dot(f16[300, 24]; f16[300, 24]) {axes=[0], keep=false}",
        "reduce_sum(f32[70000]) {axes=[0], keep=false}",
        "reduce_sum(f32[2, 3000, 20]) {axes=[1], keep=true}",
        "reduce_sum(f32[2, 5, 20, 7, 3]) {axes=[1, 3], keep=false}",
        "reduce_sum(f32[9000, 8]) {axes=[0], keep=false}",
        "reduce_sum(f32[3, 5000]) {axes=[0], keep=false}",
        "reduce_sum(f16[7, 2, 40]) {axes=[0], keep=true}",
        "reduce_mean(f32[2, 3, 4, 5]) {axes=[0, 1, 2, 3], keep=false}",
        "reduce_mean(bf16[90, 3, 9]) {axes=[0, 1], keep=false}",
        "reduce_max(f32[500, 33]) {axes=[0], keep=false}",
        "reduce_max(f32[2, 40000]) {axes=[1], keep=false}",
        "group_statistics(f32[1, 4, 9000]) {groups=2, epsilon=1e-5}",
        "reduce_sum(f32[3, 4, 5]) {axes=[1, 2], keep=false}",
        "reduce_sum(f32[3, 4, 5]) {axes=[0], keep=true}",
        "reduce_sum(f32[3, 4]) {axes=[], keep=true}",
        "reduce_mean(f32[3, 50]) {axes=[1], keep=true}",
        "reduce_mean(f32[3, 0]) {axes=[1], keep=true}",
        "reduce_max(f32[3, 50]) {axes=[1], keep=false}",
        "reduce_max(f32[3, 0]) {axes=[1], keep=false}",
        "reduce_max(i32[3, 4]) {axes=[1], keep=false}",
    ] {
        check(case);
    }
}

#[test]
fn not_a_number_and_infinities_pass() {
    let special = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        1e-40,
        3e38,
        -100.0,
    ];
    let x = Tensor::from_f32(&[8], &special);
    let y = Tensor::from_f32(&[8, 1], &special);
    let inputs = Named::from([("x".to_owned(), x), ("y".to_owned(), y)]);
    for op in "abs neg exp log sqrt reciprocal floor sigmoid relu silu tanh".split(' ') {
        let text = format!(
            "func {op} {{\n %0 = input \"x\" : f32[8]\n %1 = {op}(%0)\n return \"out\" %1\n}}"
        );
        compare(&text, Some(inputs.clone()), 1e-40);
    }
    for op in "add sub mul div max min".split(' ') {
        let text = format!(
            "func {op} {{\n %0 = input \"x\" : f32[8]\n %1 = input \"y\" : f32[8, 1]\n \
             %2 = {op}(%0, %1)\n return \"out\" %2\n}}"
        );
        compare(&text, Some(inputs.clone()), 0.0);
    }
}

#[test]
fn parameters_and_constants_can_be_results() {
    let text = "func chain {
        %0 = input \"x\" : f32[4, 3]
        %1 = weight \"w\" : f32[4, 3]
        %2 = silu(%1)
        %3 = neg(%0)
        %4 = mul(%3, %3)
        %5 = reshape(%4) {shape=[12]}
        %6 = exp(%5)
        %7 = sub(%4, %1)
        %8 = add(%0, %7)
        %9 = constant() {tensor=f32[2][3, 4]}
        %10 = neg(%9)
        %11 = exp(%9)
        return \"x\" %0
        return \"w\" %1
        return \"a\" %2
        return \"b\" %6
        return \"c\" %8
        return \"d\" %8
        return \"e\" %10
        return \"f\" %11
    }";
    compare(text, None, 1e-6);
}
