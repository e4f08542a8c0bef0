//! Tests of the rules of regions: each is broken once.

use super::*;
use crate::graph::text::parse;
use crate::ops::{Add, Op, Softmax};
use crate::region::form;
use crate::value::tensor::{Tensor, Values};

/// A convolution `r0` whose moments `r1` merges, and the norm `r2`.
const NORM: &str = r#"func f {
    %0 = input "x" : f32[2, 3, 4, 5]
    %1 = weight "w" : f32[6, 3, 1, 1]
    %2 = weight "scale" : f32[6]
    %3 = conv(%0, %1) {strides = [1, 1], pads_before = [0, 0], pads_after = [0, 0], dilations = [1, 1], groups = 1}
    %4 = group_norm(%3, %2, %2) {groups = 2, epsilon = 0.1}
    return "y" %4
}"#;

fn good() -> Regions {
    let module = parse(NORM).expect("a graph");
    let regions = form(&module.funcs[0]).expect("known sizes").regions;
    verify(&regions).expect("formation keeps the rules");
    regions
}

fn check(rule: &str, spoil: impl Fn(&mut Regions)) {
    let mut regions = good();
    spoil(&mut regions);
    let error = verify(&regions).expect_err("it is spoiled");
    assert_eq!(error.rule, rule, "{error}");
    assert!(
        error.to_string().starts_with(&format!("{rule}: r")),
        "{error}"
    );
}

#[test]
fn r10_parts_add_up_to_what_is_joined() {
    let text = r#"func f {
        %0 = input "x" : f32[3]
        %1 = neg(%0)
        %2 = exp(%0)
        %3 = concat(%0, %1, %2, %1, %2) {axis=0}
        %4 = neg(%3)
        return "y" %4
    }"#;
    let module = parse(text).expect("a graph");
    let regions = form(&module.funcs[0]).expect("known sizes").regions;
    let spoiled: [fn(&mut Regions); 4] = [
        |r| r.joined[0].parts.truncate(4),
        |r| r.joined[0].parts[1] = r.joined[0].parts[0],
        |r| r.joined[0].whole = r.results[0].1,
        |r| r.joined.push(r.joined[0].clone()),
    ];
    for spoil in spoiled {
        let mut regions = regions.clone();
        spoil(&mut regions);
        let error = verify(&regions).expect_err("it is spoiled");
        assert_eq!(error.rule, "R10", "{error}");
    }
    let mut unstored = regions;
    let stored = unstored.joined[0].parts[2];
    unstored
        .regions
        .retain(|region| !region.stores().contains(&stored));
    let error = verify(&unstored).expect_err("a part is missing");
    assert_eq!(error.rule, "R7", "{error}");
}

#[test]
fn r1_indices_stay_within_buffers() {
    fn index(regions: &mut Regions) -> &mut Vec<Index> {
        &mut regions.regions[0].operands[0].pieces[0].index
    }
    check("R1", |r| index(r)[2] = Index::axis(2).plus(1));
    check("R1", |r| drop(index(r).pop()));
}

#[test]
fn r2_accesses_have_the_type_of_their_buffers() {
    check("R2", |r| r.regions[2].operands[0].dtype = DType::F16);
    check("R2", |r| {
        let two = Tensor::from_values(DType::F32, &[2], &Values::Float(vec![0.0; 2]));
        r.regions[0].operands[0].fill = Some(two);
    });
}

#[test]
fn r3_anchors_take_their_operands() {
    check("R3", |r| r.regions[0].operands.truncate(1));
    check("R3", |r| {
        let op = Op::from(Softmax { axis: 7 });
        r.regions[0].anchor = Anchor::Op { op, operands: 1 };
    });
    check("R3", |r| {
        r.regions[1].anchor = Anchor::MergeMoments {
            groups: 4,
            epsilon: 0.1,
            count: 20,
        };
    });
}

#[test]
fn r4_nodes_read_what_is_there() {
    let nodes = |r: &mut Regions, nodes: Vec<Node>| r.regions[0].outputs[0].nodes = nodes;
    let anchor = || Node::Anchor(Index::identity(&[2, 6, 4, 5]));
    check("R4", |r| nodes(r, vec![Node::Read(1)]));
    check("R4", |r| nodes(r, vec![Node::Read(2)]));
    check("R4", |r| {
        nodes(r, vec![anchor(), Node::Apply(Add.into(), vec![0, 1])])
    });
    check("R4", |r| {
        nodes(r, vec![Node::Anchor(Index::identity(&[2, 6, 4]))])
    });
    check("R4", |r| {
        nodes(
            r,
            vec![Node::Anchor(
                Index::identity(&[2, 7, 4, 5]).into_iter().rev().collect(),
            )],
        )
    });
    check("R4", |r| r.regions[2].outputs[0].nodes[0] = anchor());
}

#[test]
fn r5_nodes_are_pointwise_and_well_typed() {
    let push = |r: &mut Regions, node: Node| r.regions[0].outputs[0].nodes.push(node);
    let softmax = || Op::from(Softmax { axis: 1 });
    check("R5", |r| push(r, Node::Apply(softmax(), vec![0])));
    check("R5", |r| push(r, Node::Apply(Add.into(), vec![0])));
    check("R5", |r| {
        push(
            r,
            Node::Scalar(Tensor::from_values(
                DType::F16,
                &[],
                &Values::Float(vec![0.0]),
            )),
        );
    });
    check("R5", |r| {
        push(
            r,
            Node::Scalar(Tensor::from_values(
                DType::F32,
                &[1],
                &Values::Float(vec![0.0]),
            )),
        );
    });
    check("R5", |r| r.regions[0].outputs[0].nodes.clear());
}

#[test]
fn r6_every_element_is_stored_at_its_place() {
    let store = |r: &mut Regions, axis: usize, index: Index| {
        r.regions[0].outputs[0].store[axis] = index;
    };
    check("R6", |r| store(r, 2, Index::constant(0)));
    check("R6", |r| store(r, 1, Index::axis(2)));
    check("R6", |r| store(r, 3, Index::axis(1)));
}

#[test]
fn r7_buffers_are_stored_once_and_before_they_are_read() {
    check("R7", |r| r.regions.swap(0, 1));
    check("R7", |r| r.regions.push(r.regions[0].clone()));
    check("R7", |r| drop(r.regions.pop()));
}

#[test]
fn r8_orders_name_each_axis() {
    let order = |r: &mut Regions, buffer: Buffer, order: &[usize]| {
        r.buffers[buffer.0 as usize].order = order.to_vec();
    };
    let stored = |r: &Regions| r.regions[0].outputs[0].buffer;
    check("R8", |r| order(r, stored(r), &[0, 1, 2]));
    check("R8", |r| order(r, stored(r), &[0, 1, 1, 3]));
    check("R8", |r| order(r, r.results[0].1, &[0, 2, 3, 1]));
    check("R8", |r| order(r, Buffer(0), &[0, 2, 3, 1]));
}

#[test]
fn r9_moments_are_of_images_and_channels() {
    let extents = |r: &mut Regions, dtype: DType, shape: &[usize]| {
        let moments = r.regions[0].outputs[0]
            .moments
            .expect("the norm reads them");
        let shape = shape.to_vec();
        r.buffers[moments.0 as usize].extents = Extents { dtype, shape };
    };
    check("R9", |r| extents(r, DType::F32, &[2, 6, 3]));
    check("R9", |r| extents(r, DType::F32, &[2, 2, 2]));
    check("R9", |r| extents(r, DType::F16, &[2, 6, 2]));
}
