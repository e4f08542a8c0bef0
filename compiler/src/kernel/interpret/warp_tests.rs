//! Asynchronous copies, loads of matrices and what both cost, as whole warps see them.

use super::{BufferContents, Fault, Traffic, interpret, traffic};
use crate::kernel::{Kernel, Memory, Scalar, Statement, Type, parse};

/// 32 invocations copy 16 bytes each, and each stores its word of a neighbour's.
fn exchange(statements: &str) -> Kernel {
    let text = format!(
        "kernel k invocations 32 grid 1 1 1 {{
           buffer $0 x: u32x2[64]
           buffer $1 y: u32x4[32] written
           shared @0 near: u32x4[32]
           shared @1 pairs: u32x2[64] over @0
           %0: i32 = local
           %1: i32 = 2
           %2: i32 = mul %0, %1
           %3: bool = true
           %4: i32 = 31
           %5: i32 = sub %4, %0
           %6: i32 = 1
           {statements}
         }}"
    );
    parse(&text).expect("a kernel")
}

fn run(kernel: &Kernel) -> Result<Vec<u32>, String> {
    let mut buffers = [
        BufferContents::from_words((0..128).collect()),
        BufferContents::undefined(128),
    ];
    match interpret(kernel, &mut buffers, None) {
        Ok(()) => Ok(buffers[1].words().to_vec()),
        Err(Fault::Invocation { kind, .. }) => Err(kind.to_string()),
        Err(other) => Err(other.to_string()),
    }
}

const COPY: &str = "copy @0[%0] = $0[%2] where %3";
const LOAD: &str = "%9: u32x4 = load @0[%5] store $1[%0] = %9";

#[test]
fn copies_arrive_after_a_wait_and_a_barrier() {
    let kernel = exchange(&format!("{COPY} commit wait 0 barrier {LOAD}"));
    let found = run(&kernel).expect("no fault");
    for who in 0..32 {
        let first = (31 - who) as u32 * 4;
        assert_eq!(
            found[who * 4..][..4],
            [first, first + 1, first + 2, first + 3]
        );
    }
}

#[test]
fn what_is_not_waited_for_is_not_there() {
    let copying = "still being copied";
    let rows = [
        (format!("{COPY} commit barrier {LOAD}"), copying),
        (format!("{COPY} wait 0 barrier {LOAD}"), copying),
        (format!("{COPY} commit wait 1 barrier {LOAD}"), copying),
        (
            format!("{COPY} commit wait 0 {LOAD}"),
            "in shared memory a barrier between the two",
        ),
        (
            format!("{COPY} commit barrier wait 0 {LOAD}"),
            "in shared memory a barrier between the two",
        ),
        // The other half of the same 16 bytes, through another type.
        (
            format!("{COPY} commit %10: u32x2 = load $0[%0] store @1[%0] = %10 barrier {LOAD}"),
            copying,
        ),
        (
            "copy @0[%0] = $0[%0] where %3 commit wait 0".to_owned(),
            "found a copy from element 1 of \"x\", wanted a multiple of 2",
        ),
    ];
    for (statements, wanted) in rows {
        let found = run(&exchange(&statements)).expect_err(&statements);
        assert!(found.contains(wanted), "{statements}: {found}");
    }
}

#[test]
fn the_latest_groups_may_be_on_their_way() {
    let kernel = exchange(&format!(
        "{COPY} commit %7: i32 = 0 %8: bool = equal %0, %4 commit wait 1 barrier {LOAD}"
    ));
    assert!(run(&kernel).is_ok(), "an empty group was committed last");
}

#[test]
fn where_a_copy_does_not_hold_are_zeros() {
    let kernel = exchange(&format!(
        "%7: i32 = 16 %8: bool = less %0, %7 copy @0[%0] = $0[%2] where %8 commit wait 0 barrier \
         {LOAD}"
    ));
    let found = run(&kernel).expect("no fault");
    assert_eq!(found[..64], [0; 64]);
    assert_eq!(found[64..68], [60, 61, 62, 63]);
}

#[test]
fn one_memory_over_another_has_its_bytes() {
    let kernel = exchange(&format!(
        "%7: u32x2 = load $0[%2] %8: i32 = add %2, %6 store @1[%2] = %7 store @1[%8] = %7 barrier \
         {LOAD}"
    ));
    let found = run(&kernel).expect("no fault");
    assert_eq!(found[..4], [124, 125, 124, 125]);
}

/// Two numbers of every row of four matrices, as the PTX ISA's figure gives them.
fn matrices(transposed: &str) -> Vec<u32> {
    let text = format!(
        "kernel k invocations 32 grid 1 1 1 {{
           buffer $0 x: u32x4[32]
           buffer $1 y: u32x4[32] written
           shared @0 near: u32x4[32]
           %0: i32 = local
           %1: u32x4 = load $0[%0]
           store @0[%0] = %1
           barrier
           %2: u32x4 = load_matrix{transposed} @0[%0]
           store $1[%0] = %2
         }}"
    );
    let kernel = parse(&text).expect("a kernel");
    assert_eq!(parse(&kernel.to_string()).expect("a kernel"), kernel);
    // Row r of matrix m has the numbers 100 m + 10 r + column.
    let number = |matrix: u32, row: u32, column: u32| 100 * matrix + 10 * row + column;
    let words = (0..32 * 4).map(|at| {
        let (row, word) = (at / 4, at % 4);
        let of = |column| number(row / 8, row % 8, column);
        of(2 * word) | of(2 * word + 1) << 16
    });
    let mut buffers = [
        BufferContents::from_words(words.collect()),
        BufferContents::undefined(128),
    ];
    interpret(&kernel, &mut buffers, None).expect("no fault");
    buffers[1].words().to_vec()
}

#[test]
fn rows_of_matrices_are_spread_over_a_warp() {
    let (straight, transposed) = (matrices(""), matrices(" transposed"));
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for matrix in 0..4 {
            let at = (lane * 4 + matrix) as usize;
            let number = |row: u32, column: u32| 100 * matrix + 10 * row + column;
            let pair = |low: u32, high: u32| low | high << 16;
            assert_eq!(straight[at], pair(number(g, 2 * t), number(g, 2 * t + 1)));
            assert_eq!(transposed[at], pair(number(2 * t, g), number(2 * t + 1, g)));
        }
    }
}

/// What one statement needs of the wavefronts and sectors, at an index that `index` computes of
/// `%0`, the invocation.
fn counts(element: &str, index: &str, access: &str) -> Vec<(bool, u64, u64)> {
    let text = format!(
        "kernel k invocations 32 grid 1 1 1 {{
           buffer $0 x: {element}[4096]
           shared @0 near: {element}[4096]
           %0: i32 = local
           %1: bool = true
           {index}
           {access}
         }}"
    );
    let kernel = parse(&text).expect("a kernel");
    let lanes = usize::from(Type::from_name(element).expect("a type").lanes);
    let mut buffers = [BufferContents::from_words(vec![0; 4096 * lanes])];
    let found = traffic(&kernel, &mut buffers, None).expect("no fault");
    let is_shared = |own: &Traffic| matches!(own.memory, Memory::Shared(_));
    found
        .iter()
        .map(|own| (is_shared(own), own.found, own.least))
        .collect()
}

#[test]
fn wavefronts_and_sectors_are_counted() {
    let times = |by: u32| format!("%2: i32 = {by} %3: i32 = mul %0, %2");
    let load = "%4: f32 = load $0[%3]";
    let load_quads = "%4: f32x4 = load $0[%3]";
    let copy = "copy @0[%3] = $0[%3] where %1 commit wait 0";
    let rows = [
        // Neighbours: 128 bytes are 4 sectors.
        ("f32", times(1), load.to_owned(), vec![(false, 4, 4)]),
        // Every second word: twice the sectors.
        ("f32", times(2), load.to_owned(), vec![(false, 8, 4)]),
        (
            "f32x4",
            times(1),
            load_quads.to_owned(),
            vec![(false, 16, 16)],
        ),
        (
            "f32",
            times(1),
            format!("{load} store @0[%3] = %4"),
            vec![(false, 4, 4), (true, 1, 1)],
        ),
        // Words 2 apart meet in 16 banks, 32 apart in one.
        (
            "f32",
            times(2),
            format!("{load} store @0[%3] = %4"),
            vec![(false, 8, 4), (true, 2, 1)],
        ),
        (
            "f32",
            times(32),
            format!("{load} store @0[%3] = %4"),
            vec![(false, 32, 4), (true, 32, 1)],
        ),
        // A quarter of a warp at a time: 16 bytes of eight neighbours are all banks.
        (
            "f32x4",
            times(1),
            copy.to_owned(),
            vec![(true, 4, 4), (false, 16, 16)],
        ),
        // Rows of 64 bytes meet in half of the banks, rows of 128 in an eighth.
        (
            "f32x4",
            times(4),
            copy.to_owned(),
            vec![(true, 16, 4), (false, 32, 16)],
        ),
        (
            "f32x4",
            times(8),
            copy.to_owned(),
            vec![(true, 32, 4), (false, 32, 16)],
        ),
        // Rows 80 bytes apart do not.
        (
            "f32x4",
            times(5),
            copy.to_owned(),
            vec![(true, 4, 4), (false, 32, 16)],
        ),
    ];
    for (element, index, access, wanted) in rows {
        assert_eq!(
            counts(element, &index, &access),
            wanted,
            "{element} {index} {access}"
        );
    }
}

#[test]
fn half_as_deep_products_are_those_of_half_the_fragments() {
    let text = |left: &str, right: &str, zero: &str| {
        format!(
            "kernel k invocations 32 grid 1 1 1 {{
               buffer $0 a: u32x2[32]
               buffer $1 b: u32[32]
               buffer $2 d: f32x4[32] written
               %0: i32 = local
               %1: u32x2 = load $0[%0]
               %2: u32 = load $1[%0]
               %3: f32 = 100
               %4: f32x4 = splat %3
               %5: u32 = 0
               %6: u32 = extract %1, 0
               %7: u32 = extract %1, 1
               {zero}
               %10: f32x4 = mma bf16 {left}, {right}, %4
               store $2[%0] = %10
             }}"
        )
    };
    let of = |text: String| {
        let kernel = parse(&text).expect("a kernel");
        // Numbers from 1 to 2 in bf16.
        let words = |count: u32| (0..count).map(|at| 0x3F80_3F80 + (at * 7919 % 127) * 0x1_0001);
        let mut buffers = [
            BufferContents::from_words(words(64).collect()),
            BufferContents::from_words(words(32).collect()),
            BufferContents::undefined(128),
        ];
        interpret(&kernel, &mut buffers, None).expect("no fault");
        buffers[2].to_f32()
    };
    let deep = "%8: u32x4 = compose %6, %7, %5, %5 %9: u32x2 = compose %2, %5";
    assert_eq!(of(text("%1", "%2", "")), of(text("%8", "%9", deep)));
}

#[test]
fn copies_and_memories_over_others_need_a_target_with_warps() {
    let kernel = exchange(&format!("{COPY} commit wait 0 barrier {LOAD}"));
    let error = |kernel: &Kernel| {
        let error = crate::kernel::verify(kernel, &crate::target::Limits::WEBGPU);
        error.expect_err("WebGPU has no warps").to_string()
    };
    assert!(error(&kernel).starts_with("K10: k, \"pairs\""));
    let mut alone = kernel.clone();
    alone.shared.pop();
    assert!(error(&alone).starts_with("K10: k, \"copy @0[%0]"));
}

#[test]
fn a_memory_lies_over_an_earlier_one_that_is_larger() {
    let verify = |change: &dyn Fn(&mut Kernel)| {
        let mut kernel = exchange(&format!("{COPY} commit wait 0 barrier {LOAD}"));
        change(&mut kernel);
        let found = crate::kernel::verify(&kernel, &super::LIMITS);
        found.err().map(|error| error.to_string())
    };
    assert_eq!(verify(&|_| {}), None);
    let wrong = |change: &dyn Fn(&mut Kernel), wanted: &str| {
        let found = verify(change).expect(wanted);
        assert!(found.contains(wanted), "{found}");
    };
    wrong(
        &|kernel| kernel.shared[1].elements = 65,
        "520 bytes over 512",
    );
    wrong(&|kernel| kernel.shared.swap(0, 1), "an earlier memory");
    wrong(
        &|kernel| kernel.shared[1].element = Type::lanes(Scalar::F16, 4),
        "lanes of 32 bits",
    );
    wrong(
        &|kernel| {
            for statement in &mut kernel.body {
                if let Statement::Copy(copy) = statement {
                    copy.shared.0 = 1;
                }
            }
        },
        "elements of 16 bytes",
    );
}
