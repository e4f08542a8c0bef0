//! Every fault is caught, and a tiled matrix product is right.

use super::{BufferContents, Fault, interpret};
use crate::kernel::{
    Binary, Builder, Builtin, Constant, Kernel, Memory, Scalar, Statement, Type, Unary, Value,
    parse,
};

const F32: Type = Type::one(Scalar::F32);

/// Runs statements on 4 invocations in each of 2 workgroups; gives what was reported.
fn report(statements: &str) -> Option<String> {
    let text = format!(
        "kernel k invocations 4 grid 2 1 1 {{
           buffer $0 x: f32[8]
           buffer $1 y: f32[8] written
           buffer $2 z: f32x2[4] written
           shared @0 a: f32[4]
           %0: i32 = local
           %1: i32 = group 0
           %2: i32 = 4
           %3: i32 = mul %1, %2
           %4: i32 = add %3, %0
           %5: i32 = 1
           %6: i32 = 0
           %7: i32 = sub %2, %5
           %8: i32 = sub %7, %0
           {statements}
         }}"
    );
    let kernel = parse(&text).expect("a kernel");
    let numbers: Vec<f32> = (0..8u8).map(f32::from).collect();
    let mut buffers = [
        BufferContents::from_f32(&numbers),
        BufferContents::undefined(8),
        BufferContents::undefined(8),
    ];
    match interpret(&kernel, &mut buffers, None) {
        Ok(()) => None,
        Err(Fault::Invocation {
            statement,
            group,
            invocation,
            kind,
            ..
        }) => Some(format!("{statement} | {group:?} {invocation} | {kind}")),
        Err(other) => Some(other.to_string()),
    }
}

#[test]
fn faults_are_reported_where_they_happen() {
    let exchange = "%10: f32 = load $0[%4] store @0[%0] = %10";
    let rows = [
        (
            "%10: f32 = load $0[%4] store $1[%4] = %10 %11: f32 = load $1[%4]",
            None,
        ),
        (
            "%10: f32 = load $0[%4] store $1[%0] = %10",
            Some(
                "store $1[%0] = %10 | [1, 0, 0] 0 | found a store of element 0 of \"y\" that \
                 invocation 0 of workgroup [0, 0, 0] has stored, wanted other elements, or in \
                 shared memory a barrier between the two",
            ),
        ),
        (
            "%10: f32 = load $0[%4] store $1[%4] = %10 barrier %12: i32 = add %3, %8 \
             %11: f32 = load $1[%12]",
            Some(
                "%11: f32 = load $1[%12] | [0, 0, 0] 0 | found a load of element 3 of \"y\" that \
                 invocation 3 of workgroup [0, 0, 0] has stored, wanted other elements, or in \
                 shared memory a barrier between the two",
            ),
        ),
        (
            &format!("{exchange} barrier %11: f32 = load @0[%8] store $1[%4] = %11"),
            None,
        ),
        (
            &format!("{exchange} %11: f32 = load @0[%8] store $1[%4] = %11"),
            Some(
                "%11: f32 = load @0[%8] | [0, 0, 0] 0 | found a load of element 3 of \"a\" that \
                 invocation 3 of workgroup [0, 0, 0] has stored, wanted other elements, or in \
                 shared memory a barrier between the two",
            ),
        ),
        (
            &format!("{exchange} barrier %11: f32 = load @0[%6] store @0[%0] = %11"),
            Some(
                "store @0[%0] = %11 | [0, 0, 0] 0 | found a store of element 0 of \"a\" that more \
                 than one other invocation has loaded, wanted other elements, or in shared memory \
                 a barrier between the two",
            ),
        ),
        (
            "%10: i32 = add %4, %2 %11: f32 = load $0[%10]",
            Some(
                "%11: f32 = load $0[%10] | [1, 0, 0] 0 | found index 8 of \"x\", wanted one of 8 \
                 elements",
            ),
        ),
        (
            "%10: f32 = load $0[%4] %11: i32 = sub %0, %5 store @0[%11] = %10",
            Some(
                "store @0[%11] = %10 | [0, 0, 0] 0 | found index -1 of \"a\", wanted one of 4 \
                 elements",
            ),
        ),
        (
            "%10: f32 = load $1[%4]",
            Some(
                "%10: f32 = load $1[%4] | [0, 0, 0] 0 | found element 0 of \"y\" undefined, wanted \
                 one that was stored",
            ),
        ),
        (
            "%9: bool = less %0, %5 %10: f32 = load $0[%4] if %9 { store @0[%0] = %10 } barrier \
             %11: f32 = load @0[%0]",
            Some(
                "%11: f32 = load @0[%0] | [0, 0, 0] 1 | found element 1 of \"a\" undefined, wanted \
                 one that was stored",
            ),
        ),
        (
            "%10: i32 = div %2, %0",
            Some(
                "%10: i32 = div %2, %0 | [0, 0, 0] 0 | found an integer divided by 0, wanted \
                 another divisor",
            ),
        ),
        (
            "%9: bool = less %6, %0 if %9 { %10: i32 = rem %2, %0 }",
            None,
        ),
        (
            "%10: i32 = 30 %11: i32 = add %10, %4 %12: i32 = shift_left %2, %11",
            Some(
                "%12: i32 = shift_left %2, %11 | [0, 0, 0] 2 | found a shift by 32, wanted less \
                 than 32",
            ),
        ),
        (
            "%10: f32 = 1.0 %11: f32x2 = splat %10 %12: f32 = extract_at %11, %0",
            Some("%12: f32 = extract_at %11, %0 | [0, 0, 0] 2 | found lane 2, wanted one of 2"),
        ),
    ];
    for (statements, wanted) in rows {
        assert_eq!(report(statements).as_deref(), wanted, "{statements}");
    }
}

#[test]
fn a_barrier_that_some_miss_is_refused() {
    // The verifier refuses all kernels in which it could happen.
    let found = report("%9: bool = less %0, %5 if %9 { barrier }").expect("a fault");
    assert!(found.starts_with("K4: "), "{found}");
}

#[test]
fn arguments_must_fit() {
    let kernel = parse("kernel k invocations 4 grid 2 1 1 { buffer $0 x: f32x2[8] }");
    let kernel = kernel.expect("a kernel");
    let sixteen = BufferContents::undefined(16);
    let rows = [
        (vec![], [0, 0, 0], Some("k: found 0 buffers, wanted 1")),
        (
            vec![BufferContents::undefined(8)],
            [0, 0, 0],
            Some("k: found 8 lanes for \"x\", wanted 16"),
        ),
        (
            vec![sixteen.clone()],
            [2, 0, 0],
            Some("k: found workgroup [2, 0, 0], wanted one of a grid of [2, 1, 1]"),
        ),
        (vec![sixteen], [1, 0, 0], None),
    ];
    for (mut buffers, group, wanted) in rows {
        let found = interpret(&kernel, &mut buffers, Some(&[group]));
        assert_eq!(
            found.err().map(|fault| fault.to_string()).as_deref(),
            wanted
        );
    }
}

/// `c = a · b` of square matrices, in blocks of 8 × 8 whose depth goes through shared memory.
fn tiled_product(size: i32) -> Kernel {
    const SIDE: i32 = 8;
    let blocks = (size / SIDE) as u32;
    let mut b = Builder::new("product", vec![], 64, [blocks, blocks, 1]);
    let elements = (size * size) as u32;
    let [left, right] = ["a", "b"].map(|name| Memory::Buffer(b.buffer(name, F32, elements, false)));
    let result = Memory::Buffer(b.buffer("c", F32, elements, true));
    let [left_tile, right_tile] =
        ["a_tile", "b_tile"].map(|name| Memory::Shared(b.shared(name, F32, 64)));
    let local = b.builtin(Builtin::Local);
    let (row, column) = (b.div(local, SIDE), b.rem(local, SIDE));
    let [first_row, first_column] = [1, 0].map(|axis| {
        let group = b.builtin(Builtin::Group(axis));
        b.times(group, SIDE)
    });
    let at = |b: &mut Builder, [row, column]: [Value; 2], width: i32| {
        let start = b.times(row, width);
        b.add(start, column)
    };
    let (y, x) = (b.add(first_row, row), b.add(first_column, column));
    let (zero, end, none) = (b.i32(0), b.i32(size), b.f32(0.0));
    let sums = b.repeat([zero, end], SIDE, &[none], |b, depth, sums| {
        let (left_column, right_row) = (b.add(depth, column), b.add(depth, row));
        for (from, to, place) in [
            (left, left_tile, [y, left_column]),
            (right, right_tile, [right_row, x]),
        ] {
            let index = at(b, place, size);
            let value = b.load(from, index);
            b.store(to, local, value);
        }
        b.barrier();
        let end = b.i32(SIDE);
        let sums = b.repeat([zero, end], 1, sums, |b, k, sums| {
            let (l, r) = (at(b, [row, k], SIDE), at(b, [k, column], SIDE));
            let (l, r) = (b.load(left_tile, l), b.load(right_tile, r));
            vec![b.fma(l, r, sums[0])]
        });
        b.barrier();
        sums
    });
    let index = at(&mut b, [y, x], size);
    b.store(result, index, sums[0]);
    b.finish()
}

#[test]
fn a_tiled_product_is_right() {
    let size = 16;
    let numbers = |seed: usize| -> Vec<f32> {
        let number = |at: usize| (at * 7 + seed) % 11;
        (0..size * size).map(|at| number(at) as f32 - 5.0).collect()
    };
    let (left, right) = (numbers(1), numbers(4));
    let mut buffers = [
        BufferContents::from_f32(&left),
        BufferContents::from_f32(&right),
        BufferContents::undefined(size * size),
    ];
    let kernel = tiled_product(size as i32);
    interpret(&kernel, &mut buffers, None).expect("no fault");
    let found = buffers[2].to_f32();
    for (at, found) in found.into_iter().enumerate() {
        let (row, column) = (at / size, at % size);
        let products = (0..size).map(|k| left[row * size + k] * right[k * size + column]);
        assert_eq!(found, products.sum::<f32>(), "{row} {column}");
    }
}

#[test]
fn without_its_barriers_a_tiled_product_races() {
    fn strip(block: &mut Vec<Statement>, keep: &mut usize) {
        block.retain(|statement| {
            let barrier = matches!(statement, Statement::Barrier);
            *keep = keep.wrapping_sub(usize::from(barrier));
            !(barrier && *keep == usize::MAX)
        });
        for statement in block {
            if let Statement::For(repeat) = statement {
                strip(&mut repeat.body, keep);
            }
        }
    }
    for missing in 0..2 {
        let mut kernel = tiled_product(16);
        strip(&mut kernel.body, &mut { missing });
        let ones = BufferContents::from_f32(&[1.0; 256]);
        let mut buffers = [ones.clone(), ones, BufferContents::undefined(256)];
        let fault = interpret(&kernel, &mut buffers, None).expect_err("a race");
        let text = fault.to_string();
        assert!(text.contains("a barrier between the two"), "{text}");
    }
}

#[test]
fn some_workgroups_leave_the_rest_undefined() {
    let kernel = tiled_product(16);
    let ones = BufferContents::from_f32(&[1.0; 256]);
    let mut buffers = [ones.clone(), ones, BufferContents::undefined(256)];
    interpret(&kernel, &mut buffers, Some(&[[1, 0, 0]])).expect("no fault");
    let defined = buffers[2].defined().iter().filter(|&&defined| defined);
    assert_eq!(defined.count(), 64);
    assert_eq!(buffers[2].to_f32()[8], 16.0);
}

/// Stores what is built of a number in each of 4 invocations; gives the words.
fn words(numbers: [f32; 4], build: impl FnOnce(&mut Builder, Value) -> Value) -> Vec<u32> {
    let mut b = Builder::new("k", vec![], 4, [1, 1, 1]);
    let x = Memory::Buffer(b.buffer("x", F32, 4, false));
    let local = b.builtin(Builtin::Local);
    let value = b.load(x, local);
    let value = build(&mut b, value);
    let ty = b.type_of(value);
    let lanes = usize::from(ty.lanes) * 4;
    let y = Memory::Buffer(b.buffer("y", ty, 4, true));
    b.store(y, local, value);
    let mut buffers = [
        BufferContents::from_f32(&numbers),
        BufferContents::undefined(lanes),
    ];
    interpret(&b.finish(), &mut buffers, None).expect("no fault");
    buffers[1].words().to_vec()
}

#[test]
fn expressions_are_right() {
    let bits = |numbers: [f32; 4]| numbers.map(f32::to_bits).to_vec();
    let ints = |numbers: [i32; 4]| numbers.map(i32::cast_unsigned).to_vec();
    let numbers = [-2.5, 0.0, 3e9, 1.25];
    assert_eq!(
        words(numbers, |b, x| b.convert(Scalar::I32, x)),
        ints([-2, 0, i32::MAX, 1])
    );
    assert_eq!(
        words(numbers, |b, x| b.convert(Scalar::U32, x)),
        [0, 0, 3_000_000_000, 1]
    );
    assert_eq!(
        words(numbers, |b, x| {
            let truth = b.convert(Scalar::Bool, x);
            b.convert(Scalar::F32, truth)
        }),
        bits([1.0, 0.0, 1.0, 1.0])
    );
    assert_eq!(
        words(numbers, |b, x| b.unary(Unary::Floor, x)),
        bits([-3.0, 0.0, 3e9, 1.0])
    );
    assert_eq!(
        words(numbers, |b, x| {
            let half = b.f32(0.5);
            let pair = b.compose(&[x, half]);
            b.pack(pair)
        }),
        [0x3800_c100, 0x3800_0000, 0x3800_7c00, 0x3800_3d00]
    );
    assert_eq!(
        words(numbers, |b, x| {
            let word = b.constant(Constant::U32(0xc100_3800));
            let pair = b.unpack(word);
            let local = b.builtin(Builtin::Local);
            let lane = b.rem(local, 2);
            let lane = b.extract_at(pair, lane);
            b.binary(Binary::Max, lane, x)
        }),
        bits([0.5, 0.0, 3e9, 1.25])
    );
    assert_eq!(
        words(numbers, |b, x| {
            let narrow = b.convert(Scalar::F16, x);
            b.splat(narrow, 2)
        }),
        [0xc100, 0xc100, 0, 0, 0x7c00, 0x7c00, 0x3d00, 0x3d00]
    );
}

#[test]
fn invocations_part_and_meet_again() {
    // Each adds up the numbers below its own, and swaps two others once per turn.
    let found = words([0.0, 1.0, 2.0, 3.0], |b, x| {
        let end = b.convert(Scalar::I32, x);
        let (zero, one) = (b.i32(0), b.i32(1));
        let left = b.repeat([zero, end], 1, &[zero, zero, one], |b, at, seen| {
            vec![b.add(seen[0], at), seen[2], seen[1]]
        });
        let odd = b.binary(Binary::Equal, left[1], one);
        let ten = b.i32(10);
        let made = b.branch(odd, |b| vec![b.add(left[0], ten)], |_| vec![left[0]]);
        made[0]
    });
    assert_eq!(found, [0, 10, 1, 13]);
}

/// The place of each element in fragments, as the PTX ISA's figures show it: invocation, register,
/// half.
#[test]
fn products_of_warps_are_those_of_matrices() {
    let kernel = parse(
        "kernel k invocations 32 grid 1 1 1 {
           buffer $0 a: u32x4[32]
           buffer $1 b: u32x2[32]
           buffer $2 d: f32x4[32] written
           %0: i32 = local
           %1: u32x4 = load $0[%0]
           %2: u32x2 = load $1[%0]
           %3: f32 = 100
           %4: f32x4 = splat %3
           %5: f32x4 = mma f16 %1, %2, %4
           store $2[%0] = %5
         }",
    )
    .expect("a kernel");
    let left = |row: usize, depth: usize| (row * 3 + depth * 5) % 7;
    let right = |depth: usize, column: usize| (depth * 2 + column * 3) % 5;
    let mut a = vec![0u32; 32 * 4];
    for row in 0..16 {
        for depth in 0..16 {
            let who = row % 8 * 4 + depth % 8 / 2;
            let register = row / 8 + depth / 8 * 2;
            a[who * 4 + register] |= half(left(row, depth)) << (depth % 2 * 16);
        }
    }
    let mut b = vec![0u32; 32 * 2];
    for depth in 0..16 {
        for column in 0..8 {
            let who = column * 4 + depth % 8 / 2;
            b[who * 2 + depth / 8] |= half(right(depth, column)) << (depth % 2 * 16);
        }
    }
    let mut buffers = [
        BufferContents::from_words(a),
        BufferContents::from_words(b),
        BufferContents::undefined(32 * 4),
    ];
    interpret(&kernel, &mut buffers, None).expect("no fault");
    let found = buffers[2].to_f32();
    for row in 0..16 {
        for column in 0..8 {
            let products = (0..16).map(|depth| left(row, depth) * right(depth, column));
            let (who, register) = (row % 8 * 4 + column / 2, row / 8 * 2 + column % 2);
            let wanted = 100.0 + products.sum::<usize>() as f32;
            assert_eq!(
                found[who * 4 + register],
                wanted,
                "row {row}, column {column}"
            );
        }
    }
}

/// A whole number as F16.
fn half(number: usize) -> u32 {
    half::f16::from_f32(number as f32).to_bits().into()
}

#[test]
fn shuffles_give_what_another_invocation_of_the_warp_has() {
    let kernel = parse(
        "kernel k invocations 64 grid 1 1 1 {
           buffer $0 y: i32[64] written
           %0: i32 = local
           %1: i32 = shuffle %0, 5
           store $0[%0] = %1
         }",
    );
    let mut buffers = [BufferContents::undefined(64)];
    interpret(&kernel.expect("a kernel"), &mut buffers, None).expect("no fault");
    for (who, found) in buffers[0].words().iter().enumerate() {
        assert_eq!(*found as usize, who ^ 5);
    }
}

#[test]
fn functions_of_warps_need_a_target_that_has_them() {
    let kernel = parse(
        "kernel k invocations 32 grid 1 1 1 {
           buffer $0 y: i32[32] written
           %0: i32 = local
           %1: i32 = shuffle %0, 1
           store $0[%0] = %1
         }",
    );
    let error = crate::kernel::verify(&kernel.expect("a kernel"), &crate::target::Limits::WEBGPU);
    let error = error.expect_err("WebGPU has no warps").to_string();
    assert!(
        error.starts_with("K9: ") && error.contains("warps of 0"),
        "{error}"
    );
}
