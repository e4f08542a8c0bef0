//! Plans of memory: small ones by hand, and random ones against a memory that remembers who wrote
//! each byte last.

use std::collections::BTreeMap;

use compiler::graph::{Definition, Func, Value};
use compiler::plan::{END, Lifetime, Limits, Plan, PlanError, lifetimes, plan};
use compiler::{Bindings, DType};
use proptest::collection::vec;
use proptest::prelude::*;

mod random_graph;

use random_graph::{Instruction, Subset, build};

/// Two windows of four units in each slab.
const SMALL: Limits = Limits {
    alignment: 16,
    binding_bytes_max: 64,
    buffer_bytes_max: 128,
};

fn lifetime(index: usize, bytes: u64, birth: u32, death: u32) -> Lifetime {
    Lifetime {
        value: Value(index as u32),
        origin: format!("conv down.{index}"),
        bytes,
        birth,
        death,
        alias: None,
        overwrites: Vec::new(),
    }
}

/// The slab and the offset of each value, or the error.
fn check(limits: Limits, lifetimes: &[Lifetime], wanted: Result<&[(usize, u64)], &str>) {
    let found = plan(lifetimes, &limits);
    let addresses = found.as_ref().map(|plan| {
        assert_sound(plan, lifetimes);
        let places = plan.places.iter();
        places.map(|place| plan.address(place)).collect::<Vec<_>>()
    });
    let addresses = addresses.map_err(|error| error.to_string());
    assert_eq!(addresses, wanted.map(<[_]>::to_vec).map_err(str::to_owned));
}

#[test]
fn values_take_the_memory_of_dead_ones() {
    let chain = [(64, 0, 1), (64, 1, 2), (64, 2, 3), (64, 3, END)];
    let chain: Vec<Lifetime> = chain
        .iter()
        .enumerate()
        .map(|(index, &(bytes, birth, death))| lifetime(index, bytes, birth, death))
        .collect();
    check(
        Limits::NONE,
        &chain,
        Ok(&[(0, 0), (0, 64), (0, 0), (0, 64)]),
    );

    // In order of birth the hole that the first leaves is too small for the last.
    let growing = [
        lifetime(0, 64, 0, 1),
        lifetime(1, 64, 1, END),
        lifetime(2, 128, 2, END),
    ];
    check(Limits::NONE, &growing, Ok(&[(0, 0), (0, 128), (0, 0)]));
}

#[test]
fn values_share_memory_with_what_they_alias_or_overwrite() {
    let mut shared = [
        lifetime(0, 64, 0, 1),
        lifetime(1, 64, 1, 2),
        lifetime(2, 64, 2, 3),
        lifetime(3, 64, 3, END),
    ];
    shared[1].alias = Some(Value(0));
    shared[2].overwrites = vec![Value(0)];
    // The operand dies, but not its reshape.
    check(
        Limits::NONE,
        &shared,
        Ok(&[(0, 0), (0, 0), (0, 0), (0, 64)]),
    );
    shared[1].death = 3;
    check(
        Limits::NONE,
        &shared,
        Ok(&[(0, 0), (0, 0), (0, 64), (0, 128)]),
    );
}

#[test]
fn values_stay_within_one_binding() {
    let alive = [48, 48, 16, 64].into_iter().enumerate();
    let alive: Vec<Lifetime> = alive
        .map(|(index, bytes)| lifetime(index, bytes, 0, END))
        .collect();
    check(SMALL, &alive, Ok(&[(0, 0), (0, 64), (0, 48), (1, 0)]));
    check(
        SMALL,
        &[lifetime(0, 64, 0, 1), lifetime(1, 65, 1, END)],
        Err("%1 (conv down.1) needs 65 bytes, wanted at most 64 in one binding"),
    );
    check(
        Limits::NONE,
        &[lifetime(0, 1 << 63, 0, 1), lifetime(1, 1 << 63, 2, 3)],
        Err("2 values need more than 2^64 bytes together"),
    );
    check(SMALL, &[lifetime(0, 0, 0, 0)], Ok(&[(0, 0)]));
    check(SMALL, &[], Ok(&[]));
}

/// The value whose memory an alias is, through aliases of aliases.
fn root(lifetimes: &BTreeMap<Value, &Lifetime>, value: Value) -> Value {
    match lifetimes[&value].alias {
        Some(alias) => root(lifetimes, alias),
        None => value,
    }
}

/// Every rule that a plan keeps, told by its addresses alone.
fn assert_sound(found: &Plan, lifetimes: &[Lifetime]) {
    let limits = found.limits;
    let named: BTreeMap<Value, &Lifetime> = lifetimes.iter().map(|l| (l.value, l)).collect();
    assert_eq!(found.places.len(), lifetimes.len());
    let ranges: Vec<(usize, u64, u64)> = lifetimes
        .iter()
        .map(|lifetime| {
            let place = found
                .place(lifetime.value)
                .expect("every value has a place");
            let (slab, offset) = found.address(place);
            let end = offset + lifetime.bytes.max(1);
            assert!(offset.is_multiple_of(limits.alignment), "aligned");
            assert!(end <= found.slabs[slab], "inside of its slab");
            let inside = |window: &&compiler::plan::Window| {
                window.slab == slab
                    && window.offset <= offset
                    && end <= window.offset + window.bytes
            };
            assert_eq!(
                found.windows.iter().filter(inside).count(),
                1,
                "in one window"
            );
            (slab, offset, end)
        })
        .collect();
    for (later, b) in lifetimes.iter().enumerate() {
        for (earlier, a) in lifetimes[..later].iter().enumerate() {
            let together = a.birth <= b.death.max(b.birth) && b.birth <= a.death.max(a.birth);
            let (left, right) = (ranges[earlier], ranges[later]);
            let overlap = left.0 == right.0 && left.1 < right.2 && right.1 < left.2;
            if !together || !overlap {
                continue;
            }
            let (from, to) = (root(&named, a.value), root(&named, b.value));
            let mut overwritten = b.overwrites.iter();
            let overwrites =
                a.death == b.birth && overwritten.any(|&operand| root(&named, operand) == from);
            assert!(from == to || overwrites, "{a:?} and {b:?} overlap");
        }
    }
    let sum = |windows: &mut dyn Iterator<Item = &compiler::plan::Window>| {
        windows.map(|window| window.bytes).sum::<u64>()
    };
    for (slab, &bytes) in found.slabs.iter().enumerate() {
        assert!(bytes <= limits.buffer_bytes_max);
        let mut windows = found.windows.iter().filter(|window| window.slab == slab);
        assert_eq!(sum(&mut windows), bytes, "windows fill their slab");
    }
    for (index, window) in found.windows.iter().enumerate() {
        assert!(window.bytes <= limits.binding_bytes_max);
        assert!(window.offset.is_multiple_of(limits.alignment));
        let next = found.windows.get(index + 1);
        let after = next.filter(|next| next.slab == window.slab);
        assert!(after.is_none_or(|next| window.offset + window.bytes <= next.offset));
    }
    assert!(found.lower_bound_bytes <= found.peak_bytes());
    assert_eq!(
        found.live_bytes().into_iter().max().unwrap_or(0),
        found.lower_bound_bytes
    );
}

/// Runs a function on bytes that remember the value that wrote them; every operand and result must
/// still be whole when it is used.
fn assert_runs(found: &Plan, func: &Func, lifetimes: &[Lifetime]) {
    let named: BTreeMap<Value, &Lifetime> = lifetimes.iter().map(|l| (l.value, l)).collect();
    let sizes = found.slabs.iter().map(|&bytes| bytes as usize);
    let mut slabs: Vec<Vec<Option<Value>>> = sizes.map(|bytes| vec![None; bytes]).collect();
    let range = |value: Value| {
        let place = found.place(value)?;
        let (slab, offset) = found.address(place);
        Some((slab, offset as usize..(offset + place.bytes) as usize))
    };
    let whole = |slabs: &[Vec<Option<Value>>], value: Value| {
        let Some((slab, bytes)) = range(value) else {
            return;
        };
        let wanted = Some(root(&named, value));
        let all = slabs[slab][bytes].iter().all(|&writer| writer == wanted);
        assert!(all, "{value} is gone");
    };
    let (params, nodes): (Vec<_>, Vec<_>) = func
        .values()
        .partition(|(_, data)| matches!(data.definition, Definition::Param(_)));
    for (value, data) in params.into_iter().chain(nodes) {
        if let Definition::Node(node) = &data.definition {
            for &operand in &node.operands {
                whole(&slabs, operand);
            }
        }
        if let Some((slab, bytes)) = range(value) {
            slabs[slab][bytes].fill(Some(root(&named, value)));
        }
    }
    for &(_, value) in func.results() {
        whole(&slabs, value);
    }
}

/// Values with what they may alias and overwrite: bytes, a wait after the last birth, ticks to live,
/// and two choices.
type Seed = (u16, u8, u8, u8, u8);

fn random_lifetimes(seeds: &[Seed]) -> Vec<Lifetime> {
    let mut now = 0;
    let mut lifetimes: Vec<Lifetime> = Vec::new();
    for (index, &(bytes, wait, ticks, choice, other)) in seeds.iter().enumerate() {
        now += 1 + u32::from(wait % 3);
        let death = if ticks > 250 {
            END
        } else {
            now + u32::from(ticks % 16)
        };
        let mut next = lifetime(index, u64::from(bytes % 700), now, death);
        let alive: Vec<usize> = (0..index).filter(|&i| lifetimes[i].death >= now).collect();
        if let Some(&base) = alive.get(usize::from(other) % alive.len().max(1)) {
            match choice % 4 {
                0 => {
                    next.bytes = lifetimes[base].bytes;
                    next.alias = Some(lifetimes[base].value);
                }
                1 => {
                    next.bytes = lifetimes[base].bytes;
                    next.overwrites = vec![lifetimes[base].value];
                }
                _ => {}
            }
        }
        lifetimes.push(next);
    }
    lifetimes
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        Just(Limits::NONE),
        Just(Limits::WEBGPU),
        (0u32..9, 0u64..4, 0u64..3).prop_map(|(shift, binding, buffer)| Limits {
            alignment: 1 << shift,
            binding_bytes_max: 512 + 300 * binding,
            buffer_bytes_max: 700 + 900 * buffer,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_lifetimes_never_overlap(
        seeds in vec(any::<Seed>(), 0..60),
        limits in limits(),
    ) {
        let lifetimes = random_lifetimes(&seeds);
        let found = plan(&lifetimes, &limits);
        prop_assert_eq!(&found, &plan(&lifetimes, &limits));
        match found {
            Ok(found) => assert_sound(&found, &lifetimes),
            Err(PlanError::Large { bytes, .. }) => {
                prop_assert!(bytes + limits.alignment > limits.binding_bytes_max.min(limits.buffer_bytes_max));
            }
            Err(PlanError::Sum { .. }) => prop_assert!(false, "sizes are small"),
        }
    }

    #[test]
    fn random_functions_find_their_operands(
        instructions in vec(any::<Instruction>(), 1..40),
        smooth in any::<bool>(),
        limits in limits(),
    ) {
        let subset = if smooth { Subset::Smooth } else { Subset::Any };
        let func = build(&instructions, DType::F32, subset);
        if let Ok(func) = func.bind(&Bindings::from([("b".to_owned(), 2)])) {
            let lifetimes = lifetimes(&func);
            if let Ok(found) = plan(&lifetimes, &limits) {
                assert_sound(&found, &lifetimes);
                assert_runs(&found, &func, &lifetimes);
            }
        }
    }
}
