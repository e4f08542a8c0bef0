//! Products of 16-bit numbers on CUDA: what whole warps compute is right, comes near in chunks, and
//! costs no more wavefronts and sectors than it must.

use compiler::graph::Role;
use compiler::kernel::{
    Binary, Branch, BufferContents, Builtin, ChunkCopy, Constant, Expression, Fault, Kernel,
    MatrixLoad, Memory, Scalar, Statement, Traffic, Type, Value, interpret, traffic,
};

use super::{Named, difference, params, program};
use crate::cuda::PTX;
use crate::cuda::tests::check_texts;
use crate::gpu::compile::compile;
use crate::webgpu::tests::programs;

/// The attributes of a 3 x 3 convolution.
fn conv(stride: usize) -> String {
    format!(
        "{{strides=[{stride}, {stride}], pads_before=[1, 1], pads_after=[1, 1], dilations=[1, 1], \
         groups=1}}"
    )
}

/// A function of `name : shape` operands, the first of which are inputs and the rest weights; its
/// statements begin at `%N` with N operands.
fn text(half: &str, inputs: &[&str], weights: &[&str], body: &str) -> String {
    let mut text = "func f {\n".to_owned();
    let inputs = inputs.iter().map(|shape| ("input", shape));
    let weights = weights.iter().map(|shape| ("weight", shape));
    for (number, (role, shape)) in inputs.chain(weights).enumerate() {
        text += &format!("  %{number} = {role} \"x{number}\" : {half}[{shape}]\n");
    }
    format!("{text}{body}\n}}\n")
}

/// What products are tested, with whether all their factors come in chunks.
fn products(half: &str) -> Vec<(&'static str, bool, String)> {
    let out = |number: usize| format!("\n  return \"out\" %{number}");
    let nchw = "{permutation=[0, 3, 1, 2]}";
    let nhwc = "{permutation=[0, 2, 3, 1]}";
    vec![
        (
            "a linear layer",
            true,
            text(
                half,
                &["130, 96"],
                &["80, 96"],
                &format!("  %2 = linear(%0, %1){}", out(2)),
            ),
        ),
        (
            "a few rows",
            true,
            text(
                half,
                &["2, 320"],
                &["64, 320"],
                &format!("  %2 = linear(%0, %1){}", out(2)),
            ),
        ),
        (
            "a depth of one fragment and a half",
            true,
            text(
                half,
                &["50, 40"],
                &["72, 40"],
                &format!("  %2 = linear(%0, %1){}", out(2)),
            ),
        ),
        (
            "a depth that fills no chunk",
            false,
            text(
                half,
                &["50, 36"],
                &["24, 36"],
                &format!("  %2 = linear(%0, %1){}", out(2)),
            ),
        ),
        (
            "a factor that takes 32 bits",
            false,
            text(
                half,
                &["64, 96"],
                &["72, 96"],
                "  %2 = silu(%0)\n  %3 = linear(%2, %1)\n  %4 = softmax(%2) {axis=1}\n  return \"out\" %3\n  \
                 return \"other\" %4",
            ),
        ),
        (
            "a right factor by rows of the depth",
            true,
            text(
                half,
                &["64, 160", "160, 96"],
                &[],
                &format!("  %2 = matmul(%0, %1){}", out(2)),
            ),
        ),
        (
            "a left factor by rows of the depth",
            true,
            text(
                half,
                &["160, 64"],
                &["72, 160"],
                &format!(
                    "  %2 = transpose(%0) {{permutation=[1, 0]}}\n  %3 = linear(%2, %1){}",
                    out(3)
                ),
            ),
        ),
        (
            "paired columns",
            true,
            text(
                half,
                &["40, 64"],
                &["96, 64"],
                &format!("  %2 = linear(%0, %1)\n  %3 = geglu(%2){}", out(3)),
            ),
        ),
        (
            "a convolution",
            true,
            text(
                half,
                &["2, 9, 10, 32"],
                &["40, 3, 3, 32"],
                &format!(
                    "  %2 = transpose(%0) {nchw}\n  %3 = transpose(%1) {nchw}\n  %4 = conv(%2, %3) \
                     {}\n  %5 = transpose(%4) {nhwc}{}",
                    conv(1),
                    out(5)
                ),
            ),
        ),
        (
            "paired columns of a depth in parts",
            true,
            text(
                half,
                &["3, 8, 4096"],
                &["64, 4096"],
                &format!("  %2 = linear(%0, %1)\n  %3 = geglu(%2){}", out(3)),
            ),
        ),
        (
            "a convolution of a depth in parts",
            true,
            text(
                half,
                &["2, 4, 4, 640"],
                &["32, 3, 3, 640"],
                &format!(
                    "  %2 = transpose(%0) {nchw}\n  %3 = transpose(%1) {nchw}\n  %4 = conv(%2, %3) \
                     {}\n  %5 = transpose(%4) {nhwc}{}",
                    conv(1),
                    out(5)
                ),
            ),
        ),
        (
            "a convolution of stride 2",
            true,
            text(
                half,
                &["1, 12, 14, 32"],
                &["16, 3, 3, 32"],
                &format!(
                    "  %2 = transpose(%0) {nchw}\n  %3 = transpose(%1) {nchw}\n  %4 = conv(%2, %3) \
                     {}\n  %5 = transpose(%4) {nhwc}{}",
                    conv(2),
                    out(5)
                ),
            ),
        ),
        (
            "a convolution of two joined operands",
            true,
            text(
                half,
                &["1, 8, 8, 16", "1, 8, 8, 32"],
                &["32, 3, 3, 48"],
                &format!(
                    "  %3 = transpose(%0) {nchw}\n  %4 = transpose(%1) {nchw}\n  %5 = concat(%3, %4) \
                     {{axis=1}}\n  %6 = transpose(%2) {nchw}\n  %7 = conv(%5, %6) {}\n  %8 = \
                     transpose(%7) {nhwc}{}",
                    conv(1),
                    out(8)
                ),
            ),
        ),
    ]
}

/// Attention with these numbers of heads, queries and keys, and this width of a head.
fn attention(half: &str, [heads, queries, keys, width]: [usize; 4], causal: bool) -> String {
    // As networks have it: heads beside each other.
    let [q, k] = [queries, keys].map(|rows| format!("1, {rows}, {heads}, {width}"));
    let by_heads = "{permutation=[0, 2, 1, 3]}";
    text(
        half,
        &[&q, &k, &k],
        &[],
        &format!(
            "  %3 = transpose(%0) {by_heads}\n  %4 = transpose(%1) {by_heads}\n  %5 = \
             transpose(%2) {by_heads}\n  %6 = attention(%3, %4, %5) {{scale=0.2, \
             causal={causal}}}\n  %7 = transpose(%6) {by_heads}\n  return \"out\" %7"
        ),
    )
}

/// The first kernel of a program that multiplies.
fn product(text: &str) -> Kernel {
    let compiled = compile(&program(text), &PTX.requirements(false), &PTX);
    let mut kernels = compiled.expect("it compiles").kernels.into_iter();
    let product =
        kernels.find(|kernel| kernel.name.contains("gemm") || kernel.name.contains("flash"));
    product.expect("there is a product")
}

/// Statements of a kernel, those in others included.
fn statements<'a>(block: &'a [Statement], all: &mut Vec<&'a Statement>) {
    for statement in block {
        all.push(statement);
        statement.blocks().for_each(|inner| statements(inner, all));
    }
}

/// How many statements of a kernel are products of warps, copies, and loads and stores of shared
/// memory one by one.
fn counts(kernel: &Kernel) -> [usize; 3] {
    let mut all = Vec::new();
    statements(&kernel.body, &mut all);
    let count = |is: &dyn Fn(&Statement) -> bool| all.iter().filter(|own| is(own)).count();
    [
        count(&|own| matches!(own, Statement::Let(_, Expression::Mma(..)))),
        count(&|own| matches!(own, Statement::Copy(_))),
        count(&|own| {
            matches!(
                own,
                Statement::Let(_, Expression::Load(Memory::Shared(_), _))
                    | Statement::Store {
                        memory: Memory::Shared(_),
                        ..
                    }
            )
        }),
    ]
}

/// One rounding of the result, of sums in f32.
fn tolerance(half: &str) -> f64 {
    match half {
        "f16" => 1e-3,
        _ => 8e-3,
    }
}

/// Compares a program in the interpreter with the oracle, and its kernels with their texts.
fn compare(name: &str, half: &str, text: &str) {
    let program = program(text);
    let [inputs, weights]: [Named; 2] =
        [Role::Input, Role::Weight].map(|role| params(program.func(), role));
    let found = programs::interpreted(&program, [&inputs, &weights], &PTX, false);
    // Weights of attention are rounded once more.
    let tolerance = 2.0 * tolerance(half);
    if let Some(difference) = difference(&program, &inputs, &found, tolerance) {
        panic!("{name}, {half}: {difference}\n{text}");
    }
    check_texts(&program);
}

#[test]
fn products_are_right_and_their_factors_come_in_chunks() {
    for half in ["f16", "bf16"] {
        for (name, in_chunks, text) in products(half) {
            compare(name, half, &text);
            let [products, copies, others] = counts(&product(&text));
            assert!(products > 0, "{name}, {half}: no product of warps");
            match in_chunks {
                true => assert!(
                    copies > 0 && others == 0,
                    "{name}, {half}: {copies} {others}"
                ),
                false => assert!(others > 0, "{name}, {half}: nothing is converted"),
            }
        }
    }
}

#[test]
fn attention_of_every_width_is_right() {
    for (sizes, causal) in [
        ([2, 64, 64, 40], false),
        ([1, 70, 50, 64], true),
        ([1, 40, 33, 80], false),
        ([1, 33, 77, 160], false),
        ([1, 20, 40, 512], false),
        // Less than a fragment, and no whole chunks.
        ([2, 5, 77, 6], false),
        ([1, 20, 20, 12], true),
    ] {
        for half in ["f16", "bf16"] {
            let text = attention(half, sizes, causal);
            compare(&format!("attention of {sizes:?}"), half, &text);
            let [products, copies, others] = counts(&product(&text));
            assert!(products > 0, "{sizes:?}");
            let in_chunks = sizes[3].is_multiple_of(8);
            assert_eq!(copies > 0 && others == 0, in_chunks, "{sizes:?}");
        }
    }
}

#[test]
fn deep_products_of_few_blocks_are_computed_in_parts() {
    let mut found = Vec::new();
    for (name, _, text) in products("f16") {
        let program = program(&text);
        let compiled = compile(&program, &PTX.requirements(false), &PTX).expect("it compiles");
        let launches = &compiled.commands.commands().launches;
        if let [parts, sum] = launches.as_slice()
            && parts.region == sum.region
        {
            assert!(parts.grid.iter().product::<u32>() >= 4, "{name}: {parts:?}");
            found.push(name);
        }
    }
    assert_eq!(
        found,
        [
            "paired columns of a depth in parts",
            "a convolution of a depth in parts"
        ]
    );
}

/// What accesses in loops of the product of a program need, all workgroups together:
/// wavefronts of shared memory and sectors of buffers, each found and least.
fn in_loops(text: &str) -> ([u64; 2], [u64; 2]) {
    let kernel = product(text);
    let lanes = |buffer: &compiler::kernel::Buffer| {
        vec![0; usize::from(buffer.element.lanes) * buffer.elements as usize]
    };
    let mut buffers: Vec<BufferContents> = kernel
        .buffers
        .iter()
        .map(|buffer| BufferContents::from_words(lanes(buffer)))
        .collect();
    let found = traffic(&kernel, &mut buffers, None).unwrap_or_else(|fault| panic!("{fault}"));
    let sum = |is_shared: bool| {
        let in_loops =
            |own: &&Traffic| own.loops > 0 && matches!(own.memory, Memory::Shared(_)) == is_shared;
        let own = found.iter().filter(in_loops);
        own.fold([0, 0], |[found, least], own| {
            [found + own.found, least + own.least]
        })
    };
    (sum(true), sum(false))
}

#[test]
fn main_loops_need_no_more_wavefronts_and_hardly_more_sectors_than_they_must() {
    for (name, _, text) in products("f16") {
        // Lines of five chunks, of which the last is half empty, meet in banks as they come.
        if name == "a depth that fills no chunk" {
            continue;
        }
        let (shared, global) = in_loops(&text);
        assert!(
            shared[0] > 0 || global[0] > 0,
            "{name}: nothing is in a loop"
        );
        assert_eq!(shared[0], shared[1], "{name}: wavefronts");
        // Rows of 80 bytes begin within sectors.
        let most = match name {
            "a depth of one fragment and a half" => 1.5,
            _ => 1.1,
        };
        assert!(
            global[0] as f64 <= most * global[1] as f64,
            "{name}: {} sectors of at least {}",
            global[0],
            global[1]
        );
    }
    // Rows of 80 bytes lie in three sectors each, some of them asked for twice.
    for (sizes, most) in [
        ([2, 64, 192, 40], 1.25),
        ([1, 64, 96, 64], 1.0),
        ([1, 64, 96, 80], 1.0),
        ([1, 64, 96, 160], 1.0),
    ] {
        let (shared, global) = in_loops(&attention("f16", sizes, false));
        assert_eq!(shared[0], shared[1], "{sizes:?}: wavefronts");
        let [found, least] = global.map(|count| count as f64);
        assert!(found <= most * least, "{sizes:?}: {global:?}");
    }
}

/// A kernel of a convolution, several workgroups and stages, with its buffers.
fn convolution() -> (Kernel, Vec<BufferContents>) {
    let products = products("f16");
    let (.., text) = products
        .iter()
        .find(|(name, ..)| *name == "a convolution")
        .expect("there is one");
    let kernel = product(text);
    let contents = |(number, buffer): (usize, &compiler::kernel::Buffer)| {
        let lanes = usize::from(buffer.element.lanes) * buffer.elements as usize;
        // Two numbers of f16 between 1 and 2 in each word.
        let word = |at: usize| 0x3C00_3C00 + (at * 7919 + number * 31) as u32 % 1021 * 0x1_0001;
        BufferContents::from_words((0..lanes).map(word).collect())
    };
    let buffers = kernel.buffers.iter().enumerate().map(contents).collect();
    (kernel, buffers)
}

/// Changes the first statement for which `change` has another, in a block or those in it; returns
/// whether there was one.
fn spoil(
    block: &mut Vec<Statement>,
    change: &mut impl FnMut(&Statement) -> Option<Vec<Statement>>,
) -> bool {
    for at in 0..block.len() {
        if let Some(others) = change(&block[at]) {
            block.splice(at..=at, others);
            return true;
        }
        let inner = match &mut block[at] {
            Statement::For(repeat) => spoil(&mut repeat.body, change),
            Statement::If(branch) => {
                spoil(&mut branch.then, change) || spoil(&mut branch.otherwise, change)
            }
            _ => false,
        };
        if inner {
            return true;
        }
    }
    false
}

/// Values that a change may define: two I32, a Bool and the sums of a fragment.
type Fresh = [Value; 4];

/// What becomes of a spoiled kernel: the rule that it breaks, a fault, or what differs.
fn verdict(change: &mut impl FnMut(&Statement, Fresh) -> Option<Vec<Statement>>) -> String {
    let (mut kernel, buffers) = convolution();
    let mut wanted = buffers.clone();
    interpret(&kernel, &mut wanted, None).expect("it is right before");
    let wavefronts = |kernel: &Kernel| {
        let found = traffic(kernel, &mut buffers.clone(), None).expect("it has no fault");
        found.iter().map(|own| own.found).sum::<u64>()
    };
    let before = wavefronts(&kernel);
    let first = kernel.types.len() as u32;
    let (i32, sums) = (Type::one(Scalar::I32), Type::lanes(Scalar::F32, 4));
    kernel
        .types
        .extend([i32, i32, Type::one(Scalar::Bool), sums]);
    let fresh = [0, 1, 2, 3].map(|number| Value(first + number));
    let mut change = |statement: &Statement| change(statement, fresh);
    assert!(spoil(&mut kernel.body, &mut change), "nothing is spoiled");
    let mut found = buffers.clone();
    match interpret(&kernel, &mut found, None) {
        Err(Fault::Kernel(error)) => error.rule.to_owned(),
        Err(Fault::Invocation { kind, .. }) => kind.to_string(),
        Err(Fault::Arguments { .. }) => unreachable!("they were right before"),
        Ok(()) if found != wanted => "other results".to_owned(),
        Ok(()) if wavefronts(&kernel) > before => "more wavefronts".to_owned(),
        Ok(()) => "nothing".to_owned(),
    }
}

/// The verdict without the first statement of a kind.
fn without(is: fn(&Statement) -> bool) -> String {
    verdict(&mut |statement, _| is(statement).then(Vec::new))
}

#[test]
fn what_orders_copies_is_missed() {
    let copying = "still being copied";
    let missing = without(|own| matches!(own, Statement::Wait(_)));
    assert!(missing.contains(copying), "{missing}");
    let missing = without(|own| matches!(own, Statement::Commit));
    assert!(missing.contains(copying), "{missing}");
    let missing = without(|own| matches!(own, Statement::Barrier));
    assert!(missing.contains("a barrier between the two"), "{missing}");
}

#[test]
fn chunks_that_change_places_on_one_side_alone_are_found() {
    let mut seen = 0;
    let alone = verdict(&mut |statement, _| {
        let Statement::Let(value, Expression::Binary(Binary::Xor, a, _)) = statement else {
            return None;
        };
        seen += 1;
        let same = Expression::Binary(Binary::Or, *a, *a);
        (seen == 1).then(|| vec![Statement::Let(*value, same)])
    });
    assert_eq!(alone, "other results");
}

#[test]
fn chunks_that_change_places_nowhere_are_counted() {
    let (kernel, mut buffers) = convolution();
    let mut straight = kernel.clone();
    let mut change = |statement: &Statement| match statement {
        Statement::Let(value, Expression::Binary(Binary::Xor, a, _)) => {
            let same = Expression::Binary(Binary::Or, *a, *a);
            Some(vec![Statement::Let(*value, same)])
        }
        _ => None,
    };
    while spoil(&mut straight.body, &mut change) {}
    let mut count = |kernel: &Kernel| {
        let found = traffic(kernel, &mut buffers, None).expect("it has no fault");
        let shared = found
            .iter()
            .filter(|own| matches!(own.memory, Memory::Shared(_)));
        shared.map(|own| own.found).sum::<u64>()
    };
    let (found, least) = (count(&straight), count(&kernel));
    assert!(found >= 2 * least, "{found} wavefronts, {least} before");
}

#[test]
fn fragments_of_the_wrong_lanes_are_found() {
    let wrong = verdict(&mut |statement, _| {
        let Statement::Let(value, Expression::LoadMatrix(load)) = statement else {
            return None;
        };
        let load = MatrixLoad {
            transposed: !load.transposed,
            ..*load
        };
        Some(vec![Statement::Let(*value, Expression::LoadMatrix(load))])
    });
    assert_eq!(wrong, "other results");
}

#[test]
fn a_product_that_some_invocations_miss_is_refused() {
    let divergent = verdict(&mut |statement, [local, count, condition, inner]| {
        let Statement::Let(value, product @ Expression::Mma(.., sums)) = statement else {
            return None;
        };
        Some(vec![
            Statement::Let(local, Expression::Builtin(Builtin::Local)),
            Statement::Let(count, Expression::Constant(Constant::I32(5))),
            Statement::Let(condition, Expression::Binary(Binary::Less, local, count)),
            Statement::If(Branch {
                condition,
                then: vec![Statement::Let(inner, product.clone())],
                otherwise: Vec::new(),
                results: vec![(*value, inner, *sums)],
            }),
        ])
    });
    assert_eq!(divergent, "K9");
}

#[test]
fn a_halo_that_is_read_is_found() {
    let read = verdict(&mut |statement, [.., holds, _]| {
        let Statement::Copy(copy) = statement else {
            return None;
        };
        let always = Expression::Constant(Constant::Bool(true));
        let copy = ChunkCopy { holds, ..*copy };
        Some(vec![Statement::Let(holds, always), Statement::Copy(copy)])
    });
    assert!(read.contains("found index -"), "{read}");
}
