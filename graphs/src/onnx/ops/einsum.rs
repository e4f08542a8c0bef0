//! `Einsum`: products of tensors summed over named axes.
//!
//! Takes an equation and its operands, returns products of two at a time, each a product of
//! matrices where axes are summed over. Axes that an ellipsis stands for count from the right.
//! Source: ONNX `Einsum`; NumPy `einsum`.

use std::collections::BTreeSet;

use compiler::ops;
use compiler::value::dim::Dim;

use crate::onnx::context::{Context, Result, Wire};
use crate::onnx::error::Problem;
use crate::onnx::node::Node;

use super::shape::product;

/// The name of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// An axis of an ellipsis, by the number of its axes from this one on. Later axes have lower
    /// numbers.
    Ellipsis(std::cmp::Reverse<usize>),
    /// A letter of the equation.
    Letter(char),
}

/// A tensor whose axes have distinct names.
struct Named {
    wire: Wire,
    labels: Vec<Label>,
}

pub(crate) fn einsum(context: &mut Context, node: &Node<'_>) -> Result<Vec<Wire>> {
    let wires = node.variadic("Inputs")?;
    let equation = node.text_or("equation", "")?;
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let refuse = |wanted: &str| node.refuse("equation", format!("{equation:?}"), wanted);
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != wires.len() {
        return Err(refuse(&format!(
            "a term for each of {} operands",
            wires.len()
        )));
    }
    let mut operands = Vec::with_capacity(wires.len());
    let mut counted = Vec::new();
    for (term, &wire) in terms.iter().zip(&wires) {
        let labels = labels(term, context.rank(wire))
            .ok_or_else(|| refuse(&format!("letters for the axes of {}", context.ty(wire))))?;
        counted.extend(&labels);
        operands.push(distinct(context, Named { wire, labels })?);
    }
    let wide = counted
        .iter()
        .filter(|label| matches!(label, Label::Ellipsis(_)));
    let wide: BTreeSet<Label> = wide.copied().collect();
    let result: Vec<Label> = match right {
        Some(right) => {
            let letters = right.chars().filter(|c| c.is_ascii_alphabetic()).count();
            let rank = letters + if right.contains('.') { wide.len() } else { 0 };
            labels(right, rank)
                .ok_or_else(|| refuse("letters and one ellipsis behind the arrow"))?
        }
        None => {
            let once = |label: &&Label| counted.iter().filter(|other| other == label).count() == 1;
            let letters = counted
                .iter()
                .filter(|label| matches!(label, Label::Letter(_)));
            let letters: BTreeSet<Label> = letters.filter(once).copied().collect();
            wide.into_iter().chain(letters).collect()
        }
    };
    let unique: BTreeSet<Label> = result.iter().copied().collect();
    if unique.len() != result.len() || !result.iter().all(|label| counted.contains(label)) {
        return Err(refuse("distinct letters of the operands behind the arrow"));
    }
    let mut rest = operands.into_iter();
    let mut all = rest.next().ok_or_else(|| refuse("an operand"))?;
    while let Some(next) = rest.next() {
        let later = rest.as_slice().iter().flat_map(|operand| &operand.labels);
        let wanted: BTreeSet<Label> = result.iter().chain(later).copied().collect();
        all = multiply(context, all, next, &wanted)?;
    }
    let all = summed(context, all, &unique)?;
    Ok(vec![ordered(context, &all, &result)?])
}

/// The names of the axes of an operand of `rank` axes; `None` where the term does not fit.
fn labels(term: &str, rank: usize) -> Option<Vec<Label>> {
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let letters = |text: &str| -> Option<Vec<Label>> {
        let letter = |c: char| c.is_ascii_alphabetic().then_some(Label::Letter(c));
        text.chars().map(letter).collect()
    };
    let (mut labels, after) = (letters(before)?, after.map(letters));
    if let Some(after) = after {
        let after = after?;
        let covered = rank.checked_sub(labels.len() + after.len())?;
        let axes = (1..=covered)
            .rev()
            .map(|axis| Label::Ellipsis(std::cmp::Reverse(axis)));
        labels.extend(axes);
        labels.extend(after);
    }
    (labels.len() == rank).then_some(labels)
}

/// Takes the diagonal of axes that have one name.
fn distinct(context: &mut Context, mut operand: Named) -> Result<Named> {
    let repeated = |labels: &[Label]| -> Option<(usize, usize)> {
        let again = |axis: usize| {
            labels[..axis]
                .iter()
                .position(|label| *label == labels[axis])
        };
        (0..labels.len()).find_map(|axis| Some((again(axis)?, axis)))
    };
    while let Some((first, second)) = repeated(&operand.labels) {
        let rank = operand.labels.len();
        let (rows, columns) = (
            context.extent(operand.wire, first)?,
            context.extent(operand.wire, second)?,
        );
        if rows != columns {
            return Err(mismatch(
                context,
                operand.wire,
                "equal extents on axes of one letter",
            ));
        }
        let others: Vec<usize> = (0..rank).filter(|&a| a != first && a != second).collect();
        let permutation = others.iter().copied().chain([first, second]).collect();
        let last = context.transpose(operand.wire, permutation)?;
        let mut shape: Vec<Dim> = context.shape(last)[..rank - 2].to_vec();
        shape.push(Dim::from(rows.saturating_mul(rows)));
        let flat = context.reshape(last, shape)?;
        // Elements of the diagonal are a row and an element apart.
        let step = rows as i64 + 1;
        let (axis, start, length) = (rank - 2, Dim::from(0), Dim::from(rows));
        let diagonal = ops::Slice {
            axis,
            start,
            length,
            step,
        };
        let wire = context.push(diagonal, &[flat])?;
        let mut labels: Vec<Label> = others.iter().map(|&axis| operand.labels[axis]).collect();
        labels.push(operand.labels[first]);
        operand = Named { wire, labels };
    }
    Ok(operand)
}

/// Sums over the axes that are not wanted.
fn summed(context: &mut Context, operand: Named, wanted: &BTreeSet<Label>) -> Result<Named> {
    let unwanted = |label: &Label| !wanted.contains(label);
    let axes = (0..operand.labels.len()).filter(|&axis| unwanted(&operand.labels[axis]));
    let axes: Vec<usize> = axes.collect();
    if axes.is_empty() {
        return Ok(operand);
    }
    let wire = context.push(ops::ReduceSum { axes, keep: false }, &[operand.wire])?;
    let labels = operand
        .labels
        .into_iter()
        .filter(|label| wanted.contains(label));
    let labels = labels.collect();
    Ok(Named { wire, labels })
}

/// The operand with its axes in the order of `labels`.
fn ordered(context: &mut Context, operand: &Named, labels: &[Label]) -> Result<Wire> {
    let place = |label: &Label| operand.labels.iter().position(|own| own == label);
    let permutation = labels.iter().filter_map(place).collect();
    context.transpose(operand.wire, permutation)
}

/// The product of two operands, summed over the axes of both that are not wanted.
fn multiply(context: &mut Context, a: Named, b: Named, wanted: &BTreeSet<Label>) -> Result<Named> {
    let with = |labels: &[Label]| wanted.iter().chain(labels).copied().collect();
    let keep = with(&b.labels);
    let a = summed(context, a, &keep)?;
    let keep = with(&a.labels);
    let b = summed(context, b, &keep)?;
    let both: Vec<Label> = a
        .labels
        .iter()
        .filter(|l| b.labels.contains(l))
        .copied()
        .collect();
    let (a, b) = stretched(context, a, b, &both)?;
    let (shared, contracted): (Vec<Label>, Vec<Label>) =
        both.iter().partition(|label| wanted.contains(label));
    let own = |operand: &Named| -> Vec<Label> {
        let own = operand.labels.iter().filter(|label| !both.contains(label));
        own.copied().collect()
    };
    let (rows, columns) = (own(&a), own(&b));
    let extents = |operand: &Named, labels: &[Label]| -> Vec<Dim> {
        let shape = context.shape(operand.wire);
        let axis = |label: &Label| operand.labels.iter().position(|own| own == label);
        labels
            .iter()
            .filter_map(axis)
            .map(|axis| shape[axis].clone())
            .collect()
    };
    let (batch, m) = (extents(&a, &shared), extents(&a, &rows));
    let (k, n) = (extents(&a, &contracted), extents(&b, &columns));
    let left = ordered(context, &a, &[&shared[..], &rows, &contracted].concat())?;
    let right = ordered(context, &b, &[&shared[..], &contracted, &columns].concat())?;
    let matrix = |context: &mut Context, wire: Wire, rows: &[Dim], columns: &[Dim]| {
        let sides = [product(rows), product(columns)];
        context.reshape(wire, batch.iter().cloned().chain(sides).collect())
    };
    let left = matrix(context, left, &m, &k)?;
    let right = matrix(context, right, &k, &n)?;
    let result = match contracted.is_empty() {
        // A column and a row, one element deep.
        true => context.push(ops::Mul, &[left, right])?,
        false => context.push(ops::Matmul, &[left, right])?,
    };
    let wire = context.reshape(result, [batch, m, n].concat())?;
    let labels = [shared, rows, columns].concat();
    Ok(Named { wire, labels })
}

/// Both operands with equal extents on the axes that both have; an extent of 1 is stretched.
fn stretched(context: &mut Context, a: Named, b: Named, both: &[Label]) -> Result<(Named, Named)> {
    let axis = |operand: &Named, label: &Label| operand.labels.iter().position(|own| own == label);
    let (mut of_a, mut of_b) = (context.shape(a.wire), context.shape(b.wire));
    for label in both {
        let (Some(i), Some(j)) = (axis(&a, label), axis(&b, label)) else {
            continue;
        };
        match (of_a[i].is(1), of_b[j].is(1)) {
            (true, _) => of_a[i] = of_b[j].clone(),
            (false, true) => of_b[j] = of_a[i].clone(),
            (false, false) if of_a[i] != of_b[j] => {
                let wanted = format!("extent {} on axis {j}", of_a[i]);
                return Err(mismatch(context, b.wire, &wanted));
            }
            (false, false) => {}
        }
    }
    let a = Named {
        wire: context.broadcast(a.wire, of_a)?,
        ..a
    };
    let b = Named {
        wire: context.broadcast(b.wire, of_b)?,
        ..b
    };
    Ok((a, b))
}

fn mismatch(context: &Context, wire: Wire, wanted: &str) -> Problem {
    Problem::Operand {
        name: "Inputs",
        found: context.ty(wire).to_string(),
        wanted: wanted.to_owned(),
    }
}
