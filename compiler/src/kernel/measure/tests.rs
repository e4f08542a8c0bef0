//! What small kernels are measured as.

use super::{Multiprocessor, Quality, measure};
use crate::kernel::parse;

/// Measures statements in 64 invocations of each of 4 workgroups.
fn quality(statements: &str) -> Quality {
    let text = format!(
        "kernel k invocations 64 grid 2 2 1 {{
           buffer $0 x: f32x4[256]
           buffer $1 y: f32[256] written
           shared @0 a: f32[4096]
           %0: i32 = local
           %1: i32 = group 0
           %2: i32 = 0
           %3: i32 = 10
           {statements}
         }}"
    );
    measure(&parse(&text).expect("a kernel"), &Multiprocessor::MODEL)
}

#[test]
fn loops_turn_as_often_as_for_the_first_invocation() {
    let rows = [
        ("%4: i32 = 10", 3),
        ("%4: i32 = sub %3, %0", 3),
        ("%4: i32 = add %1, %3", 3),
        ("%4: i32 = neg %3", 0),
        ("%5: f32 = load $1[%0] %4: i32 = convert %5", 1),
    ];
    for (end, turns) in rows {
        let found = quality(&format!(
            "%6: f32 = 1.0 {end} %7: i32 = 3
             for %8 = %2 to %4 step 4 carry %9: f32 = %6 next %10 left %11 {{
               %10: f32 = exp %9
               barrier
             }}
             %12: f32 = fma %11, %11, %11
             store $1[%0] = %12"
        ));
        assert_eq!(found.flops, (turns + 2) * 256, "{end}");
        assert_eq!(found.barriers, turns, "{end}");
        assert_eq!(found.global_store_bytes, 4 * 256, "{end}");
    }
}

#[test]
fn bytes_are_those_asked_for() {
    let found = quality(
        "%4: f32x4 = load $0[%0]
         %5: f32 = extract %4, 1
         store @0[%0] = %5
         %6: bool = less %0, %3
         if %6 {
           %7: f32 = load @0[%0]
           store $1[%0] = %7
         } else {
           store $1[%2] = %5
           store $1[%3] = %5
         }",
    );
    assert_eq!(found.global_load_bytes, 16 * 256);
    // Ten invocations of each of four workgroups pass the condition.
    assert_eq!(found.global_store_bytes, 4 * 40);
    assert_eq!(found.shared_moved_bytes, 4 * 256 + 4 * 40);
    assert_eq!(found.integer_operations, 256);
    assert_eq!((found.groups, found.invocations), (4, 256));
    assert_eq!(found.shared_bytes, 16_384);
}

#[test]
fn registers_hold_what_lives_at_the_same_time() {
    let rows = [
        // The place and the number.
        ("%4: f32 = load $1[%0] store $1[%0] = %4", 2),
        // Four lanes, and the place that is needed after them.
        (
            "%4: f32x4 = load $0[%0] %5: f32 = extract %4, 2 store $1[%0] = %5",
            5,
        ),
        // One lane after the other keeps two numbers.
        (
            "%4: f32 = load $1[%0] %5: f32 = load $1[%0] %6: f32 = add %4, %5 store $1[%0] = %6",
            3,
        ),
        // The place, the counter and four lanes that are carried, with four that are loaded.
        (
            "%4: f32 = 0.0 %5: f32x4 = splat %4
             for %6 = %2 to %3 step 1 carry %7: f32x4 = %5 next %8 left %9 {
               %10: f32x4 = load $0[%6]
               %8: f32x4 = add %7, %10
             }
             %11: f32 = extract %9, 0
             store $1[%0] = %11",
            10,
        ),
        // The larger of the two branches.
        (
            "%4: bool = less %0, %3
             if %4 {
               %5: f32x4 = load $0[%0]
               %6: f32 = extract %5, 0
             } else {
               %7: f32 = load $1[%0]
             } gives %8: f32 = %6 else %7
             store $1[%0] = %8",
            5,
        ),
    ];
    for (statements, registers) in rows {
        assert_eq!(quality(statements).registers, registers, "{statements}");
    }
}

#[test]
fn what_ends_first_limits_how_many_are_there() {
    // 16 KiB of shared memory: four workgroups of 64.
    assert_eq!(quality("").occupancy, 4.0 * 64.0 / 2048.0);
    let text = "kernel k invocations 256 grid 1 1 1 { }";
    let found = measure(&parse(text).expect("a kernel"), &Multiprocessor::MODEL);
    assert_eq!(found.occupancy, 1.0);
}
