//! `fold`: sums, means, maxima, dot products and statistics of rows of any length.
//!
//! Takes a region whose anchor reduces axes to numbers, returns the program in which a block takes
//! in part after part of its rows and stores what they come to: no row needs to be near whole.
//! Reduced axes are walked as they lie in memory. Where the results lie closer than what is
//! reduced, as sums over the pixels of channels do, columns are folded down the rows of a tile.

use crate::DType;
use crate::ops::Op;
use crate::region::access::Step as Walk;
use crate::region::{Access, Anchor, Index, Region, Regions, Scope};
use crate::target::{Blocking, Target};
use crate::tile::outputs::{Domain, is_on_elements, outputs};
use crate::tile::programs::{Candidate, Parameters, cost, even};
use crate::tile::region_ref::RegionRef;
use crate::tile::view::{Axes, View};
use crate::tile::{BlockProgram, Origin, Step, Tile, TileId};

/// Elements that a block takes in at a time: they stay near between their copy and their sum.
const ELEMENTS: usize = 1 << 14;

/// Columns of a block that are folded side by side at most.
const COLUMNS_MAX: usize = 2048;

/// Results that must lie side by side for columns to be folded: less does not fill vectors.
const COLUMNS_MIN: usize = 8;

/// Whether it rounds more than direct sums.
pub(super) const ROUNDS_MORE: bool = false;

/// See the card.
///
/// # Errors
/// With the reason, when the anchor folds no rows or its epilogue is not element by element.
pub(super) fn candidates(region: RegionRef<'_>, target: &Target) -> Result<Vec<Candidate>, String> {
    let folded = folded(&region)?;
    let layout = folded.layout(region.regions);
    // Accumulators of many columns do not stay in registers.
    let down = match target.compute.blocking {
        Blocking::Packed { .. } => layout.down.is_some(),
        Blocking::Staged { .. } => false,
    };
    let depth = extent(&layout.reduced);
    let (block, step) = match layout.down.as_deref() {
        Some([.., inner]) if down => {
            let block = even(inner.extent, COLUMNS_MAX, target.compute.fragment[1]);
            let block = block.min(inner.extent);
            (block, (ELEMENTS / block).clamp(1, depth))
        }
        Some(_) | None => {
            let count: usize = folded.kept().map(|axis| folded.shape()[axis]).product();
            let step = depth.min(ELEMENTS);
            let share = count.div_ceil(target.compute.threads.max(1));
            (even(count, (ELEMENTS / step).min(share), 1), step)
        }
    };
    let seconds = cost::bytes(region, target);
    Ok(vec![Candidate::new(
        [block, step, usize::from(down)],
        seconds,
    )])
}

/// The program for these parameters.
///
/// # Errors
/// As [`candidates`].
pub(super) fn program(
    region: RegionRef<'_>,
    [block, step, down]: Parameters,
) -> Result<BlockProgram, String> {
    let folded = folded(&region)?;
    let layout = folded.layout(region.regions);
    let depth = extent(&layout.reduced);
    let walk = match layout.down {
        Some(kept) if down == 1 => Walked::down(kept, layout.reduced),
        Some(_) | None => {
            let kept = folded.kept().map(|axis| folded.joint(axis));
            Walked::along(kept.collect(), layout.reduced, folded.numbers)
        }
    };
    let view = |operand: &Access| {
        let index = |axis| place(&walk.read, axis, &folded, &walk.from);
        let index = (0..folded.shape().len()).map(index);
        View::read(operand, &walk.from, index.collect(), Vec::new())
    };
    let index = |axes: &Axes| {
        let index = folded.result.iter().map(|source| match source {
            Source::Axis(axis) => place(&walk.made, *axis, &folded, axes),
            Source::Number => axes.index(axes.first_column()),
            Source::Nothing => Index::constant(0),
        });
        (index.collect(), Vec::new())
    };
    let domain = Domain::new(walk.to.clone(), None, &index);
    let count = |axes: &[usize]| axes.iter().product::<usize>();
    let (rows, columns) = (count(&walk.to.rows), count(&walk.to.columns));
    let [block, part] = match walk.down {
        true => [[1, block], [step, block]],
        false => [[block, columns], [block, step]],
    };
    let (tiles, body) = steps(folded.operands.len(), [block, part], walk.down);
    let acc = TileId(tiles.len() as u32 - 1);
    Ok(BlockProgram {
        program: "fold",
        region: region.id,
        batch: count(&walk.to.batch),
        rows,
        columns,
        block,
        tiles,
        outputs: outputs(region, &domain, 1)?,
        views: folded.operands.iter().map(view).collect(),
        body: vec![
            Step::Zero { tile: acc },
            Step::repeat(Origin::Depth, depth, step, 1, body),
            Step::store(acc),
        ],
    })
}

/// The tiles, the accumulator last, and what is done with a part of the rows.
fn steps(factors: usize, [block, part]: [[usize; 2]; 2], down: bool) -> (Vec<Tile>, Vec<Step>) {
    let names: &[&'static str] = if factors > 1 { &["a", "b"] } else { &["x"] };
    let shared = names
        .iter()
        .map(|&name| Tile::shared(name, part[0], part[1]));
    let mut tiles: Vec<Tile> = shared.collect();
    tiles.push(Tile::fragment("y", block[0], block[1]));
    let [rows, columns] = match down {
        true => [Origin::Depth, Origin::Columns],
        false => [Origin::Rows, Origin::Depth],
    };
    let copy = |number| Step::copy(TileId(number as u32), number, rows, columns);
    let mut body: Vec<Step> = (0..factors).map(copy).collect();
    body.push(Step::Fold {
        acc: TileId(factors as u32),
        from: TileId(0),
        with: (factors > 1).then_some(TileId(1)),
        down,
    });
    (tiles, body)
}

/// The axes of a program.
struct Walked {
    /// Of what is read, and the joints that they walk.
    from: Axes,
    read: Vec<Joint>,
    /// Of what is made.
    to: Axes,
    made: Vec<Joint>,
    down: bool,
}

impl Walked {
    /// Rows are kept, columns are folded.
    fn along(kept: Vec<Joint>, reduced: Vec<Joint>, numbers: usize) -> Walked {
        Walked {
            from: Axes {
                rows: extents(&kept),
                columns: extents(&reduced),
                ..Axes::default()
            },
            to: Axes {
                rows: extents(&kept),
                columns: vec![numbers],
                ..Axes::default()
            },
            read: [&kept[..], &reduced].concat(),
            made: kept,
            down: false,
        }
    }

    /// Columns are what is kept last, each folded down its rows.
    fn down(kept: Vec<Joint>, reduced: Vec<Joint>) -> Walked {
        let (outer, inner) = kept.split_at(kept.len() - 1);
        Walked {
            from: Axes {
                batch: extents(outer),
                rows: extents(&reduced),
                columns: extents(inner),
                ..Axes::default()
            },
            to: Axes {
                batch: extents(outer),
                columns: extents(inner),
                ..Axes::default()
            },
            read: [outer, &reduced, inner].concat(),
            made: kept,
            down: true,
        }
    }
}

/// Where an index of the anchor's result comes from.
enum Source {
    /// An axis of the operands.
    Axis(usize),
    /// Which number of a row.
    Number,
    /// An axis of one element.
    Nothing,
}

/// What is folded.
struct Folded {
    /// One, or two of one shape.
    operands: Vec<Access>,
    /// The axes that are reduced.
    axes: Vec<usize>,
    /// Numbers that a row comes to.
    numbers: usize,
    /// The anchor's result, axis by axis.
    result: Vec<Source>,
}

fn folded(region: &Region) -> Result<Folded, String> {
    let x = region.operands.first().ok_or("no operand")?;
    let narrow = |x: &Access| x.dtype.is_float() && x.dtype != DType::F64;
    if !narrow(x) || x.shape.contains(&0) {
        return Err(format!("rows of {}, wanted f32, f16 or bf16", x.dtype));
    }
    let (axes, keep) = match &region.anchor {
        Anchor::Op { op, .. } => match op {
            Op::Dot(dot) => (&dot.axes, dot.keep),
            Op::ReduceMax(reduce) => (&reduce.axes, reduce.keep),
            Op::ReduceMean(reduce) => (&reduce.axes, reduce.keep),
            Op::ReduceSum(reduce) => (&reduce.axes, reduce.keep),
            other => return Err(format!("{} folds no rows", other.name())),
        },
        Anchor::Statistics { groups, .. } => {
            return match is_on_elements(region) {
                true => Err("rows are kept whole".to_owned()),
                false => Ok(statistics(x, *groups)),
            };
        }
        Anchor::MergeMoments { .. } => return Err("moments are not folded".to_owned()),
        Anchor::Pointwise => return Err("nothing is folded".to_owned()),
    };
    let source = |axis: usize| match (axes.contains(&axis), keep) {
        (false, _) => Some(Source::Axis(axis)),
        (true, true) => Some(Source::Nothing),
        (true, false) => None,
    };
    Ok(Folded {
        operands: region.operands[..region.anchor_operands()].to_vec(),
        axes: axes.clone(),
        numbers: 1,
        result: (0..x.shape.len()).filter_map(source).collect(),
    })
}

/// A row has the channels of one group of one image, and gives mean and factor.
fn statistics(x: &Access, groups: usize) -> Folded {
    let split = [
        &[x.shape[0], groups, x.shape[1] / groups.max(1)],
        &x.shape[2..],
    ]
    .concat();
    Folded {
        operands: vec![x.through(&Walk::reshape(&x.shape, &split))],
        axes: (2..split.len()).collect(),
        numbers: 2,
        result: vec![Source::Axis(0), Source::Axis(1), Source::Number],
    }
}

/// Axes that lie behind one another in memory, walked as one.
#[derive(Clone)]
struct Joint {
    /// Outermost first.
    axes: Vec<usize>,
    extent: usize,
}

impl Joint {
    /// No axis.
    const ONE: Joint = Joint {
        axes: Vec::new(),
        extent: 1,
    };
}

/// In which order axes are walked.
struct Layout {
    reduced: Vec<Joint>,
    /// What is kept, where its last axes lie closer than what is reduced.
    down: Option<Vec<Joint>>,
}

impl Folded {
    fn shape(&self) -> &[usize] {
        &self.operands[0].shape
    }

    fn kept(&self) -> impl Iterator<Item = usize> {
        (0..self.shape().len()).filter(|axis| !self.axes.contains(axis))
    }

    fn joint(&self, axis: usize) -> Joint {
        Joint {
            axes: vec![axis],
            extent: self.shape()[axis],
        }
    }

    fn layout(&self, regions: &Regions) -> Layout {
        let strides: Vec<Strides> = self
            .operands
            .iter()
            .map(|x| Strides::of(x, regions))
            .collect();
        let reduced = self.joints(&strides, self.axes.clone());
        let kept = self.joints(&strides, self.kept().collect());
        let near = |joint: &Joint| {
            let last = joint.axes.last();
            last.is_some_and(|&axis| strides[0].steps[axis] == 1)
        };
        let side_by_side = kept
            .last()
            .is_some_and(|j| near(j) && j.extent >= COLUMNS_MIN);
        let down = self.numbers == 1 && side_by_side && !reduced.iter().any(near);
        Layout {
            reduced,
            down: down.then_some(kept),
        }
    }

    /// Axes as they lie, outermost first, joined where all operands allow it.
    fn joints(&self, strides: &[Strides], mut axes: Vec<usize>) -> Vec<Joint> {
        let step = |axis: usize| strides.iter().map(|own| own.steps[axis].abs()).max();
        axes.retain(|&axis| self.shape()[axis] > 1);
        axes.sort_by_key(|&axis| std::cmp::Reverse(step(axis)));
        let mut joints: Vec<Joint> = Vec::new();
        for axis in axes {
            let extent = self.shape()[axis];
            let follows = |outer: &Joint| {
                let last = outer.axes.last().copied();
                let reach = |own: &Strides| own.steps[axis].checked_mul(extent as i64);
                let joins = |own: &Strides| {
                    own.whole && last.is_some_and(|last| Some(own.steps[last]) == reach(own))
                };
                strides.iter().all(joins)
            };
            match joints.last_mut() {
                Some(outer) if follows(outer) => {
                    outer.axes.push(axis);
                    outer.extent *= extent;
                }
                Some(_) | None => joints.push(self.joint(axis)),
            }
        }
        if joints.is_empty() {
            joints.push(Joint::ONE);
        }
        joints
    }
}

/// How far neighbours on each axis of an operand lie apart, in elements.
struct Strides {
    steps: Vec<i64>,
    /// Whether they do so everywhere.
    whole: bool,
}

impl Strides {
    fn of(access: &Access, regions: &Regions) -> Strides {
        let rank = access.shape.len();
        let Some(piece) = access.pieces.first() else {
            return Strides {
                steps: vec![0; rank],
                whole: false,
            };
        };
        let own = regions.buffer(piece.buffer).strides();
        let address = |index: &[usize]| -> i64 {
            let terms = piece.index.iter().zip(&own);
            terms
                .map(|(part, &stride)| part.at(index).saturating_mul(stride as i64))
                .sum()
        };
        let mut index = vec![0; rank];
        let origin = address(&index);
        let mut steps = vec![0; rank];
        for (axis, step) in steps.iter_mut().enumerate() {
            if access.shape[axis] > 1 {
                index[axis] = 1;
                *step = address(&index) - origin;
                index[axis] = 0;
            }
        }
        let whole = access.pieces.len() == 1 && piece.bounds.is_empty();
        Strides { steps, whole }
    }
}

fn extents(joints: &[Joint]) -> Vec<usize> {
    joints.iter().map(|joint| joint.extent).collect()
}

fn extent(joints: &[Joint]) -> usize {
    joints.iter().map(|joint| joint.extent).product()
}

/// The index on an axis of the operands, in the axes of a program, which walk these joints.
fn place(joints: &[Joint], axis: usize, folded: &Folded, axes: &Axes) -> Index {
    let extents = axes.shape();
    let scope = Scope::of(&extents);
    let found = joints.iter().enumerate().find_map(|(position, joint)| {
        let at = joint.axes.iter().position(|&own| own == axis)?;
        let behind = joint.axes[at + 1..].iter();
        let behind: usize = behind.map(|&axis| folded.shape()[axis]).product();
        let index = axes.index(position).div(behind as i64, scope);
        Some(match at {
            0 => index,
            _ => index.modulo(folded.shape()[axis] as i64, scope),
        })
    });
    found.unwrap_or(Index::constant(0))
}
