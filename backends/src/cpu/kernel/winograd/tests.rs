//! Winograd convolutions against plain f64 loops: tiles with a border, packed and multiplied as the
//! executor does it.

use super::input::input;
use super::output::output;
use super::weights::{Filters, Precision, transform};
use super::*;
use crate::cpu::kernel::machine::Machine;
use crate::cpu::kernel::mma::{Acc, Left, Right, Start, mma};
use crate::cpu::kernel::testing::normals;

/// Pixels of a tile that lie outside of the image: a border above and left.
fn outside(row: usize, column: usize) -> bool {
    row == 0 || column == 0
}

/// A convolution of `[tiles, channels, columns]` by transforms and products, and its largest and
/// root mean square error against f64, both relative to the largest and to the root mean square of
/// the result; and the same of plain f32 sums.
fn errors(machine: Machine, points: Points, sizes: [usize; 3]) -> [[f64; 2]; 2] {
    let [tiles, depth, columns] = sizes;
    let (tile, planes) = (points.tile(), points.planes());
    let (height, width) = (tiles.max(machine.rows()), machine.columns());
    let strips = columns.div_ceil(width);
    let image = normals(tiles * planes * depth, 5);
    let filters = normals(columns * 9 * depth, 6);
    let pixel = |i: usize, row: usize, column: usize| {
        let at = (i * planes + row * tile + column) * depth;
        (!outside(row, column)).then(|| &image[at..][..depth])
    };
    let taps = |i: usize| -> Taps<'_> {
        std::array::from_fn(|plane| {
            (plane < planes).then(|| pixel(i, plane / tile, plane % tile))?
        })
    };
    let taps: Vec<Taps<'_>> = (0..tiles).map(taps).collect();
    let mut left = vec![f32::NAN; planes * height * depth];
    input(
        machine,
        points,
        &taps,
        [height, depth],
        &mut left,
        height * depth,
    );

    let strip_size = width * depth;
    let mut right = vec![f32::NAN; planes * strips * strip_size];
    for strip in 0..strips {
        let mut side_by_side = vec![0.0; 9 * strip_size];
        for j in strip * width..columns.min((strip + 1) * width) {
            for (at, &value) in filters[j * 9 * depth..][..9 * depth].iter().enumerate() {
                side_by_side[at * width + j % width] = value;
            }
        }
        let filters = Filters {
            taps: &side_by_side,
            channels: depth,
            channel_stride: width,
            tap_stride: strip_size,
            order: std::array::from_fn(|tap| tap),
        };
        let parts = right.chunks_mut(strip_size);
        let mut own: Vec<&mut [f32]> = parts.skip(strip).step_by(strips).collect();
        transform(machine, (points, Precision::Double), filters, &mut own);
    }
    let mut acc = vec![f32::NAN; planes * height * strips * width];
    for plane in 0..planes {
        let row_stride = strips * width;
        mma(
            machine,
            Acc {
                data: &mut acc[plane * height * row_stride..],
                row_stride,
                panel_stride: width,
            },
            Left {
                data: &left[plane * height * depth..],
                height,
                panel_stride: 0,
            },
            Right {
                data: &right[plane * strips * strip_size..],
                panel_stride: strip_size,
            },
            [tiles, columns, depth],
            Start::Zero,
        );
    }
    let pixels = points.pixels();
    let mut y = vec![f32::NAN; pixels * pixels * columns];
    let (mut most, mut squares) = ([0.0f64; 3], [0.0f64; 3]);
    for i in 0..tiles {
        let m = (&acc[i * strips * width..], height * strips * width);
        output(machine, points, m, columns, (&mut y, columns), false);
        for (at, &found) in y.iter().enumerate() {
            let (place, j) = (at / columns, at % columns);
            let (mut wanted, mut direct) = (0.0, 0.0);
            for tap in 0..9 {
                let (row, column) = (place / pixels + tap / 3, place % pixels + tap % 3);
                let Some(run) = pixel(i, row, column) else {
                    continue;
                };
                for (&d, &g) in run.iter().zip(&filters[(j * 9 + tap) * depth..]) {
                    wanted += f64::from(d) * f64::from(g);
                    direct += d * g;
                }
            }
            let values = [
                wanted,
                f64::from(found) - wanted,
                f64::from(direct) - wanted,
            ];
            for (value, (most, squares)) in values.iter().zip(most.iter_mut().zip(&mut squares)) {
                *most = most.max(if value.is_nan() {
                    f64::INFINITY
                } else {
                    value.abs()
                });
                *squares += value * value;
            }
        }
    }
    [1, 2].map(|of| [most[of] / most[0], (squares[of] / squares[0]).sqrt()])
}

/// Roundings of normal data add up like the square root of their number, for both algorithms, and
/// so does the result: relative errors do not grow with the depth. F(4×4) loses a digit at most by
/// the size of its transforms.
#[test]
fn errors_are_those_of_sums() {
    for machine in Machine::available() {
        for (points, most, mean) in [(Points::Two, 2e-6, 1.5e-6), (Points::Four, 6e-6, 3e-6)] {
            for depth in [320, 1280] {
                let [found, direct] = errors(machine, points, [2, depth, 3]);
                let case = format!(
                    "{} {points:?} {depth}: {found:?} by {direct:?}",
                    machine.name()
                );
                assert!(found[0] < most && found[1] < mean, "{case}");
            }
        }
    }
}

#[test]
fn convolutions_of_all_sizes() {
    for machine in Machine::available() {
        let (rows, lanes) = (machine.rows(), machine.lanes());
        for points in [Points::Two, Points::Four] {
            for tiles in [1, rows - 1, rows] {
                for (depth, columns) in
                    [(1, 1), (3, lanes + 1), (40, lanes - 1), (77, 2 * lanes + 3)]
                {
                    let sizes = [tiles, depth, columns];
                    let [[most, _], _] = errors(machine, points, sizes);
                    assert!(
                        most < 2e-5,
                        "{} {points:?} {sizes:?}: {most}",
                        machine.name()
                    );
                }
            }
        }
    }
}

#[test]
fn constants_of_transforms_are_exact_in_f32() {
    let (a2, b2) = (A * A, B * B);
    for constant in [a2, b2, a2 + b2, a2 * b2, a2 * A, b2 * B] {
        assert_eq!(f64::from(constant as f32), constant);
    }
}
