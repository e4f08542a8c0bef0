//! Operators from hostile files: whatever the types and attributes, inference answers, and what
//! it accepts can be evaluated.
//!
//! Takes the golden cases and spoils them: an attribute, a type, the number of operands. Draws
//! come from a fixed seed.

use compiler::graph::TensorType;
use compiler::ops::{Attribute, Op};
use compiler::value::array::Array;
use compiler::value::dim::{Bindings, Dim};
use compiler::value::dtype::{DTYPES, DType};
use compiler::value::extents::Extents;
use compiler::value::tensor::{Tensor, Values};

use super::cases::cases;

/// Spoiled copies of each golden case.
const COPIES: usize = 300;

/// What is accepted is evaluated up to this many elements in each operand and the result.
const ELEMENTS_MAX: usize = 4096;

const INTS: [i64; 14] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    -1,
    -2,
    1 << 31,
    1 << 40,
    (1 << 40) + 1,
    i64::MAX,
    i64::MIN,
];

/// A xorshift generator (Marsaglia 2003): enough to choose with.
struct Draws(u64);

impl Draws {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % count as u64).expect("below a usize")
    }

    fn int(&mut self) -> i64 {
        INTS[self.below(INTS.len())]
    }

    fn dim(&mut self) -> Dim {
        match self.below(4) {
            0 => Dim::symbol("s"),
            1 => Dim::symbol("s").mul(&Dim::from(4)),
            _ => Dim::from(self.int()),
        }
    }

    fn dtype(&mut self) -> DType {
        DTYPES[self.below(DTYPES.len())]
    }

    fn spoil_list<T>(&mut self, list: &mut Vec<T>, draw: impl Fn(&mut Draws) -> T) {
        let at = self.below(list.len() + 1);
        let item = draw(self);
        match self.below(4) {
            0 => list.insert(at, item),
            1 if at < list.len() => drop(list.remove(at)),
            _ if at < list.len() => list[at] = item,
            _ => list.push(item),
        }
    }

    fn spoil_attribute(&mut self, attribute: &mut Attribute) {
        match attribute {
            Attribute::Int(value) => *value = self.int(),
            Attribute::Ints(list) => self.spoil_list(list, Draws::int),
            Attribute::Float(value) => {
                *value = [0.0, -1.0, f64::NAN, f64::INFINITY][self.below(4)];
            }
            Attribute::Bool(value) => *value = !*value,
            Attribute::Name(_) => {}
            Attribute::DType(dtype) => *dtype = self.dtype(),
            Attribute::Dim(dim) => *dim = self.dim(),
            Attribute::Dims(list) => self.spoil_list(list, Draws::dim),
            Attribute::Tensor(tensor) => *tensor = tensor.cast(self.dtype()),
        }
    }

    fn spoil(&mut self, attributes: &mut [(String, Attribute)], types: &mut Vec<TensorType>) {
        for _ in 0..=self.below(3) {
            let at = self.below(types.len().max(1));
            match self.below(6) {
                0 if !types.is_empty() => types[at].dtype = self.dtype(),
                1 | 2 if !types.is_empty() => self.spoil_list(&mut types[at].shape, Draws::dim),
                3 if !types.is_empty() => self.spoil_list(types, |draws| {
                    let dtype = draws.dtype();
                    TensorType::new(dtype, [draws.dim(), draws.dim()])
                }),
                _ if !attributes.is_empty() => {
                    let at = self.below(attributes.len());
                    self.spoil_attribute(&mut attributes[at].1);
                }
                _ => {}
            }
        }
    }
}

/// Small operands of these types: zeros, ones and twos.
fn arrays(types: &[TensorType]) -> Option<Vec<Array>> {
    let array = |ty: &TensorType| {
        let extents = small(ty)?;
        let count = extents.shape.iter().product::<usize>();
        let values = (0..count).map(|i| i64::try_from(i % 3).expect("below 3"));
        let values = Values::Int(values.collect());
        Some(Array::from(&Tensor::from_values(
            extents.dtype,
            &extents.shape,
            &values,
        )))
    };
    types.iter().map(array).collect()
}

/// The extents of a type that is known and has few elements on every axis.
fn small(ty: &TensorType) -> Option<Extents> {
    let (dtype, shape) = (ty.dtype, ty.extents()?);
    let elements = shape
        .iter()
        .try_fold(1usize, |all, &extent| all.checked_mul(extent.max(1)))?;
    (elements <= ELEMENTS_MAX).then_some(Extents { dtype, shape })
}

#[test]
fn spoiled_operators_are_refused_or_run() {
    let mut draws = Draws(0x9e37_79b9_7f4a_7c15);
    let (mut refused, mut run) = (0, 0);
    for case in cases() {
        for _ in 0..COPIES {
            let attributes = case.op.attributes().into_iter();
            let mut attributes: Vec<(String, Attribute)> = attributes
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let mut types: Vec<TensorType> = case.operands.iter().map(TensorType::of).collect();
            draws.spoil(&mut attributes, &mut types);
            let parsed = Op::parse(case.op.name(), &attributes).expect("the name is known");
            let Ok(op) = parsed else { continue };
            let Ok(result) = op.infer(&types) else {
                refused += 1;
                continue;
            };
            let _ = op.flops(&types, &result);
            let bindings = Bindings::from([("s".to_owned(), 4)]);
            let (op, types): (Op, Vec<TensorType>) = (
                op.bind(&bindings),
                types.iter().map(|ty| ty.bind(&bindings)).collect(),
            );
            let Ok(result) = op.infer(&types) else {
                continue;
            };
            let (Some(extents), Some(arrays)) = (small(&result), arrays(&types)) else {
                continue;
            };
            let operands: Vec<&Array> = arrays.iter().collect();
            if let Ok(values) = op.eval(&operands, &extents) {
                assert_eq!(values.len(), extents.elements(), "{op:?} of {types:?}");
                run += 1;
            }
        }
    }
    assert!(refused > 1000 && run > 1000, "{refused} refused, {run} run");
}
