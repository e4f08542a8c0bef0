//! Addresses: views as expressions of a kernel, and what they read and store.
//!
//! Takes where a tile's element is (batch, plane, row, column), gives loads and stores that stay
//! within their buffers. What a view does not show is its fill, and is not loaded.

use compiler::kernel::{
    Binary, BufferId, Builder, ChunkCopy, Half, Memory, Scalar, SharedId, Type, Unary, Value,
};
use compiler::region::{Bound, Buffer, Index, Part, Regions, Scope};
use compiler::tile::View;

use super::functions::{self, round_bf16};
use super::near::CHUNK;
use super::quads::{self, Along};
use crate::gpu::commands::StoredAs;

/// One storage buffer of a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument {
    /// The buffer of the regions.
    pub(crate) buffer: Buffer,
    /// The kernel's.
    pub(crate) id: BufferId,
    /// How elements lie in it.
    pub(crate) stored: StoredAs,
    /// Elements of one access: 1, 2 or 4.
    pub(crate) unit: i32,
    /// Whether an access is to a word of 32 bits, whatever the form: memory that buffers of several
    /// forms share.
    pub(crate) in_words: bool,
    /// Whether numbers of 16 bits are F16 of the kernel, which the feature `shader-f16` gives, not
    /// halves of words.
    pub(crate) native: bool,
    /// Accesses before its first element.
    pub(crate) base: i32,
}

/// What a kernel's expansion knows of its buffers.
pub(crate) struct Arguments<'a> {
    pub(crate) regions: &'a Regions,
    pub(crate) list: Vec<Argument>,
}

/// Which element of a view; all are I32 and linear in the axes of their role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) batch: Value,
    pub(crate) plane: Value,
    pub(crate) row: Value,
    pub(crate) column: Value,
}

/// How many neighbours, along which axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    One,
    Quad(Along),
}

impl Width {
    pub(crate) fn lanes(self) -> u8 {
        match self {
            Width::One => 1,
            Width::Quad(_) => 4,
        }
    }
}

/// How elements are read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// The type of a lane.
    scalar: Scalar,
    /// What stands where there is no element.
    fill: f32,
    width: Width,
    /// The type of numbers in words, if words are wanted.
    half: Option<Half>,
}

impl Arguments<'_> {
    pub(crate) fn of(&self, buffer: Buffer) -> Argument {
        let mut list = self.list.iter();
        *list
            .find(|argument| argument.buffer == buffer)
            .expect("the arguments are those of the region")
    }

    /// Whether quads of a view are loaded as such.
    pub(crate) fn shows_quads(&self, view: &View, along: Along) -> bool {
        let mut pieces = view.access.pieces.iter();
        pieces.all(|piece| self.of(piece.buffer).unit == 4)
            && quads::shows(view, along, self.regions)
    }

    /// The elements of a view, F32 for floats, I32 for integers and truth values. Where `valid`
    /// does not hold nothing is loaded, and the value is 0 or the fill.
    pub(crate) fn read(
        &self,
        b: &mut Builder,
        view: &View,
        at: At,
        width: Width,
        valid: Option<Value>,
    ) -> Value {
        let fill = view.access.fill.as_ref();
        let reading = Reading {
            scalar: scalar(view),
            fill: fill.map_or(0.0, functions::first),
            width,
            half: None,
        };
        self.read_as(b, view, at, reading, valid)
    }

    /// Whether four neighbours of a view along its columns can be read as two words of numbers of
    /// 16 bits.
    pub(crate) fn shows_pairs(&self, view: &View) -> bool {
        let fill = view.access.fill.as_ref();
        let fills_zero = fill.is_none_or(|fill| functions::first(fill) == 0.0);
        fills_zero && self.shows_quads(view, Along::Columns)
    }

    /// Whether a view shows chunks: eight neighbours along an axis lie in 16 bytes as numbers of that
    /// type.
    pub(crate) fn shows_chunks(&self, view: &View, along: Along, half: Half) -> bool {
        let stored = match half {
            Half::F16 => StoredAs::F16,
            Half::Bf16 => StoredAs::Bf16,
        };
        let fill = view.access.fill.as_ref();
        let fills_zero = fill.is_none_or(|fill| functions::first(fill) == 0.0);
        let mut pieces = view.access.pieces.iter();
        let lie = pieces.all(|piece| {
            let argument = self.of(piece.buffer);
            argument.unit == 4 && argument.stored == stored
        });
        fills_zero && lie && quads::shows_groups(view, along, self.regions, CHUNK)
    }

    /// Copies the chunk that begins at an element to a place of shared memory. Where `valid` does
    /// not hold nothing is read, and all of it is 0.
    pub(crate) fn copy_chunk(
        &self,
        b: &mut Builder,
        (view, at): (&View, At),
        valid: Option<Value>,
        (shared, place): (SharedId, Value),
    ) {
        let axes = axes(b, view, at);
        let rest = self.shown(b, view, &axes, valid);
        self.copy_piece(b, (view, &axes), &rest, (shared, place));
    }

    /// Copies from the first piece that shows the element.
    fn copy_piece(
        &self,
        b: &mut Builder,
        (view, axes): (&View, &[Value]),
        rest: &[(Option<Value>, usize)],
        (shared, place): (SharedId, Value),
    ) {
        let Some(((holds, number), rest)) = rest.split_first() else {
            return;
        };
        let shape = &view.access.shape;
        let piece = &view.access.pieces[*number];
        let copy = |b: &mut Builder, holds: Value| {
            let argument = self.of(piece.buffer);
            let index = quads::address(piece, self.regions).div(4, Scope::of(shape));
            let index = evaluate(b, &index, axes, shape);
            let index = b.plus(index, argument.base);
            b.copy(ChunkCopy {
                shared,
                place,
                buffer: argument.id,
                index,
                holds,
            });
        };
        let always = |b: &mut Builder| b.constant(compiler::kernel::Constant::Bool(true));
        match (holds, rest) {
            (None, _) => {
                let holds = always(b);
                copy(b, holds);
            }
            // What nothing shows is 0.
            (Some(holds), []) => copy(b, *holds),
            (Some(holds), rest) => {
                b.branch(
                    *holds,
                    |b| {
                        let holds = always(b);
                        copy(b, holds);
                        Vec::new()
                    },
                    |b| {
                        self.copy_piece(b, (view, axes), rest, (shared, place));
                        Vec::new()
                    },
                );
            }
        }
    }

    /// Four neighbours along the columns as two words (U32x2) of numbers of 16 bits: as they lie,
    /// where they lie in that form. Where `valid` does not hold nothing is loaded, and all are 0.
    pub(crate) fn read_pairs(
        &self,
        b: &mut Builder,
        view: &View,
        at: At,
        half: Half,
        valid: Option<Value>,
    ) -> Value {
        let reading = Reading {
            scalar: Scalar::U32,
            fill: 0.0,
            width: Width::Quad(Along::Columns),
            half: Some(half),
        };
        self.read_as(b, view, at, reading, valid)
    }

    fn read_as(
        &self,
        b: &mut Builder,
        view: &View,
        at: At,
        reading: Reading,
        valid: Option<Value>,
    ) -> Value {
        let axes = axes(b, view, at);
        let rest = self.shown(b, view, &axes, valid);
        self.pieces(b, (view, &axes), reading, &rest)
    }

    /// The pieces of a view, by number, each with whether it shows the element; `None` where it
    /// surely does.
    fn shown(
        &self,
        b: &mut Builder,
        view: &View,
        axes: &[Value],
        valid: Option<Value>,
    ) -> Vec<(Option<Value>, usize)> {
        let mut all: Vec<(Option<Value>, usize)> = Vec::new();
        for (piece, data) in view.access.pieces.iter().enumerate() {
            let mut holds = valid;
            for bound in &data.bounds {
                let inside = inside(b, bound, axes, &view.access.shape);
                holds = Some(b.joined(Binary::And, holds, inside));
            }
            all.push((holds, piece));
        }
        // The last piece shows all that the others leave, unless there is a fill.
        if view.access.fill.is_none()
            && let Some((holds, _)) = all.last_mut()
        {
            *holds = valid;
        }
        all
    }

    /// As many neighbours along the columns as a width has lanes, one by one where they do not lie
    /// side by side.
    pub(crate) fn read_lanes(&self, b: &mut Builder, view: &View, at: At, width: Width) -> Value {
        if width == Width::One || self.shows_quads(view, Along::Columns) {
            return self.read(b, view, at, width, None);
        }
        let lanes: Vec<Value> = (0..4)
            .map(|lane| {
                let column = b.plus(at.column, lane);
                self.read(b, view, At { column, ..at }, Width::One, None)
            })
            .collect();
        b.compose(&lanes)
    }

    fn pieces(
        &self,
        b: &mut Builder,
        (view, axes): (&View, &[Value]),
        reading: Reading,
        rest: &[(Option<Value>, usize)],
    ) -> Value {
        let empty = |b: &mut Builder| {
            if reading.half.is_some() {
                let zero = b.constant(compiler::kernel::Constant::U32(0));
                return b.splat(zero, 2);
            }
            let fill = match reading.scalar {
                Scalar::I32 => b.i32(reading.fill as i32),
                Scalar::Bool | Scalar::U32 | Scalar::F16 | Scalar::F32 => b.f32(reading.fill),
            };
            b.splat(fill, reading.width.lanes())
        };
        let Some(((holds, piece), rest)) = rest.split_first() else {
            return empty(b);
        };
        let load = |b: &mut Builder| {
            let piece = &view.access.pieces[*piece];
            let index = quads::address(piece, self.regions);
            self.load(b, piece.buffer, &index, (axes, &view.access.shape), reading)
        };
        match holds {
            None => load(b),
            Some(holds) => {
                let load = |b: &mut Builder| vec![load(b)];
                let other = |b: &mut Builder| vec![self.pieces(b, (view, axes), reading, rest)];
                b.branch(*holds, load, other)[0]
            }
        }
    }

    fn load(
        &self,
        b: &mut Builder,
        buffer: Buffer,
        index: &Index,
        (axes, extents): (&[Value], &[usize]),
        reading: Reading,
    ) -> Value {
        let argument = self.of(buffer);
        let memory = Memory::Buffer(argument.id);
        if let (Width::Quad(_), false) = (reading.width, argument.in_words) {
            let scope = Scope::of(extents);
            let place = evaluate(b, &index.div(4, scope), axes, extents);
            let place = b.plus(place, argument.base);
            let loaded = b.load(memory, place);
            let half = match (reading.half, argument.stored) {
                (None, _) => return self.widen(b, argument, loaded),
                (Some(Half::F16), StoredAs::F16) if !argument.native => return loaded,
                (Some(Half::Bf16), StoredAs::Bf16) => return loaded,
                (Some(half), _) => half,
            };
            let wide = self.widen(b, argument, loaded);
            let words = [0, 2].map(|first| {
                let pair = [first, first + 1].map(|lane| b.extract(wide, lane));
                functions::packed(b, half, pair)
            });
            return b.compose(&words);
        }
        let element = evaluate(b, index, axes, extents);
        self.element(b, argument, element)
    }

    /// One element of a buffer by its number.
    fn element(&self, b: &mut Builder, argument: Argument, element: Value) -> Value {
        let memory = Memory::Buffer(argument.id);
        if argument.in_words {
            return self.word(b, argument, element);
        }
        let bits = argument.unit.trailing_zeros() as i32;
        let unit = match argument.unit {
            1 => element,
            _ => {
                let shift = b.i32(bits);
                b.binary(Binary::ShiftRight, element, shift)
            }
        };
        let unit = b.plus(unit, argument.base);
        let loaded = b.load(memory, unit);
        if argument.unit == 1 {
            return loaded;
        }
        let mask = b.i32(argument.unit - 1);
        let lane = b.binary(Binary::And, element, mask);
        match argument.stored {
            StoredAs::F32 | StoredAs::I32 => b.extract_at(loaded, lane),
            StoredAs::F16 if argument.native => {
                let half = b.extract_at(loaded, lane);
                b.convert(Scalar::F32, half)
            }
            StoredAs::F16 | StoredAs::Bf16 => {
                let one = b.i32(1);
                let word = match argument.unit {
                    2 => loaded,
                    _ => {
                        let word = b.binary(Binary::ShiftRight, lane, one);
                        b.extract_at(loaded, word)
                    }
                };
                let pair = self.unpack(b, argument.stored, word);
                let half = b.binary(Binary::And, element, one);
                b.extract_at(pair, half)
            }
        }
    }

    /// One element of a buffer in words.
    fn word(&self, b: &mut Builder, argument: Argument, element: Value) -> Value {
        let one = b.i32(1);
        let word = match argument.stored {
            StoredAs::F32 | StoredAs::I32 => element,
            StoredAs::F16 | StoredAs::Bf16 => b.binary(Binary::ShiftRight, element, one),
        };
        let word = b.plus(word, argument.base);
        let word = b.load(Memory::Buffer(argument.id), word);
        match argument.stored {
            StoredAs::F32 => b.bits(Scalar::F32, word),
            StoredAs::I32 => b.bits(Scalar::I32, word),
            StoredAs::F16 | StoredAs::Bf16 => {
                let pair = self.unpack(b, argument.stored, word);
                let half = b.binary(Binary::And, element, one);
                b.extract_at(pair, half)
            }
        }
    }

    /// Stores one element, or four from an aligned one on, in a buffer in words.
    fn store_words(&self, b: &mut Builder, argument: Argument, element: Value, value: Value) {
        let value = self.narrow(b, argument, value);
        let value = b.bits(Scalar::U32, value);
        let first = match argument.stored {
            StoredAs::F32 | StoredAs::I32 => element,
            StoredAs::F16 | StoredAs::Bf16 => b.div(element, 2),
        };
        let first = b.plus(first, argument.base);
        for lane in 0..b.type_of(value).lanes {
            let place = b.plus(first, i32::from(lane));
            let word = b.extract(value, lane);
            b.store(Memory::Buffer(argument.id), place, word);
        }
    }

    fn unpack(&self, b: &mut Builder, stored: StoredAs, word: Value) -> Value {
        match stored {
            StoredAs::F16 => b.unpack(word),
            StoredAs::F32 | StoredAs::I32 | StoredAs::Bf16 => {
                let sixteen = b.constant(compiler::kernel::Constant::U32(16));
                let mask = b.constant(compiler::kernel::Constant::U32(0xffff_0000));
                let low = b.binary(Binary::ShiftLeft, word, sixteen);
                let high = b.binary(Binary::And, word, mask);
                let both = b.compose(&[low, high]);
                b.bits(Scalar::F32, both)
            }
        }
    }

    /// A loaded quad as four lanes.
    fn widen(&self, b: &mut Builder, argument: Argument, loaded: Value) -> Value {
        match argument.stored {
            StoredAs::F32 | StoredAs::I32 => loaded,
            StoredAs::F16 if argument.native => b.convert(Scalar::F32, loaded),
            StoredAs::F16 | StoredAs::Bf16 => {
                let mut lanes = Vec::with_capacity(4);
                for word in 0..2 {
                    let word = b.extract(loaded, word);
                    let pair = self.unpack(b, argument.stored, word);
                    lanes.extend([b.extract(pair, 0), b.extract(pair, 1)]);
                }
                b.compose(&lanes)
            }
        }
    }

    /// Stores `value`, of the view's type, where the view has its element.
    pub(crate) fn store(&self, b: &mut Builder, view: &View, at: At, width: Width, value: Value) {
        let axes = axes(b, view, at);
        for piece in &view.access.pieces {
            let mut holds = None;
            for bound in &piece.bounds {
                let inside = inside(b, bound, &axes, &view.access.shape);
                holds = Some(b.joined(Binary::And, holds, inside));
            }
            let index = quads::address(piece, self.regions);
            let put = |b: &mut Builder| {
                let scope = Scope::of(&view.access.shape);
                let argument = self.of(piece.buffer);
                if argument.in_words {
                    let place = evaluate(b, &index, &axes, &view.access.shape);
                    return self.store_words(b, argument, place, value);
                }
                let index = match width {
                    Width::One => index,
                    Width::Quad(_) => index.div(4, scope),
                };
                let place = evaluate(b, &index, &axes, &view.access.shape);
                assert_eq!(
                    argument.unit,
                    i32::from(width.lanes()),
                    "a store fills its unit"
                );
                let value = self.narrow(b, argument, value);
                let place = b.plus(place, argument.base);
                b.store(Memory::Buffer(argument.id), place, value);
            };
            b.guarded(holds, put);
        }
    }

    fn narrow(&self, b: &mut Builder, argument: Argument, value: Value) -> Value {
        match argument.stored {
            StoredAs::F32 | StoredAs::I32 => value,
            StoredAs::F16 if argument.native => b.convert(Scalar::F16, value),
            StoredAs::F16 => {
                let words = [0, 2].map(|first| {
                    let pair = [first, first + 1].map(|lane| b.extract(value, lane));
                    let pair = b.compose(&pair);
                    b.pack(pair)
                });
                b.compose(&words)
            }
            StoredAs::Bf16 => {
                let rounded = round_bf16(b, value);
                let bits = b.bits(Scalar::U32, rounded);
                let sixteen = b.constant(compiler::kernel::Constant::U32(16));
                let words = [0, 2].map(|first| {
                    let low = b.extract(bits, first);
                    let high = b.extract(bits, first + 1);
                    let low = b.binary(Binary::ShiftRight, low, sixteen);
                    b.binary(Binary::Or, low, high)
                });
                b.compose(&words)
            }
        }
    }
}

/// The type in which a view's elements are computed with.
fn scalar(view: &View) -> Scalar {
    match view.access.dtype.is_float() {
        true => Scalar::F32,
        false => Scalar::I32,
    }
}

/// What an index of a buffer counts.
pub(crate) fn element(stored: StoredAs, unit: i32, native: bool) -> Type {
    match stored {
        StoredAs::F16 if native => Type::lanes(Scalar::F16, unit as u8),
        StoredAs::F32 => Type::lanes(Scalar::F32, unit as u8),
        StoredAs::I32 => Type::lanes(Scalar::I32, unit as u8),
        StoredAs::F16 | StoredAs::Bf16 => Type::lanes(Scalar::U32, (unit / 2) as u8),
    }
}

/// The index on each axis of a view.
fn axes(b: &mut Builder, view: &View, at: At) -> Vec<Value> {
    let mut axes = Vec::with_capacity(view.access.shape.len());
    let roles = [
        (view.batch(), at.batch),
        (view.planes(), at.plane),
        (view.rows(), at.row),
        (view.columns(), at.column),
    ];
    for (extents, linear) in roles {
        axes.extend(digits(b, linear, extents));
    }
    axes
}

/// A linear index as one on each axis, the last one innermost.
fn digits(b: &mut Builder, linear: Value, extents: &[usize]) -> Vec<Value> {
    let mut rest = linear;
    let mut digits = Vec::with_capacity(extents.len());
    for (axis, &extent) in extents.iter().enumerate().rev() {
        // What is outermost has no more above it.
        let outer = extents[..axis].iter().all(|&extent| extent == 1);
        match outer {
            true => {
                digits.push(rest);
                rest = b.i32(0);
            }
            false => {
                digits.push(b.rem(rest, extent as i32));
                rest = b.div(rest, extent as i32);
            }
        }
    }
    digits.reverse();
    digits
}

/// The value of an index.
pub(crate) fn evaluate(b: &mut Builder, index: &Index, axes: &[Value], extents: &[usize]) -> Value {
    let (constant, parts) = index.parts();
    let mut sum: Option<Value> = None;
    for (part, coefficient) in parts {
        let value = match part {
            Part::Axis(axis) => axes[axis],
            Part::Div(inner, divisor) => floor(b, inner, divisor, (axes, extents)).0,
            Part::Mod(inner, divisor) => floor(b, inner, divisor, (axes, extents)).1,
        };
        let term = b.times(value, coefficient as i32);
        sum = Some(b.joined(Binary::Add, sum, term));
    }
    match sum {
        Some(sum) => b.plus(sum, constant as i32),
        None => b.i32(constant as i32),
    }
}

/// Quotient and remainder, rounded towards minus infinity.
fn floor(
    b: &mut Builder,
    inner: &Index,
    divisor: i64,
    (axes, extents): (&[Value], &[usize]),
) -> (Value, Value) {
    let scope = Scope::of(extents);
    let (least, _) = inner.range(scope);
    // Moved up by whole divisors the dividend is not negative.
    let turns = match least < 0 {
        true => (-least)
            .unsigned_abs()
            .div_ceil(divisor.unsigned_abs().into()) as i64,
        false => 0,
    };
    let x = evaluate(b, &inner.clone().plus(turns * divisor), axes, extents);
    let quotient = b.div(x, divisor as i32);
    let quotient = b.plus(quotient, -turns as i32);
    let remainder = b.rem(x, divisor as i32);
    (quotient, remainder)
}

/// Whether a bound holds.
fn inside(b: &mut Builder, bound: &Bound, axes: &[Value], extents: &[usize]) -> Value {
    let Bound { index, start, end } = bound;
    let scope = Scope::of(extents);
    let (least, most) = index.range(scope);
    let value = evaluate(b, index, axes, extents);
    let mut holds = b.constant(compiler::kernel::Constant::Bool(true));
    if least < i128::from(*start) {
        let start = b.i32(*start as i32);
        let above = b.binary(Binary::LessEqual, start, value);
        holds = b.and(holds, above);
    }
    if most >= i128::from(*end) {
        let below = b.below(value, *end as i32);
        holds = b.and(holds, below);
    }
    holds
}

/// Whether truth values are meant: not 0.
pub(crate) fn truth(b: &mut Builder, x: Value) -> Value {
    let lanes = b.type_of(x).lanes;
    let zero = b.i32(0);
    let zero = b.splat(zero, lanes);
    let equal = b.binary(Binary::Equal, x, zero);
    b.unary(Unary::Not, equal)
}
