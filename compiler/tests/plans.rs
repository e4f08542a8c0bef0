//! Plans of memory: small ones by hand, and random ones against a memory that remembers what was
//! stored in each element last.

use compiler::graph::Role;
use compiler::graph::text::parse;
use compiler::plan::{END, Lifetime, Plan, PlanError, lifetimes, plan};
use compiler::region::{Buffer, Content, Index, Node, Output, Region, Regions, form};
use compiler::target::Limits;
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
    ..Limits::NONE
};

fn lifetime(index: usize, bytes: u64, birth: u32, death: u32) -> Lifetime {
    Lifetime {
        buffer: Buffer(index as u32),
        origin: format!("conv down.{index}"),
        bytes,
        birth,
        death,
        overwrites: Vec::new(),
    }
}

/// The slab and the offset of each buffer, or the error.
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
fn buffers_take_the_memory_of_dead_ones() {
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
fn buffers_share_memory_with_what_they_overwrite() {
    let mut shared = [
        lifetime(0, 64, 0, 2),
        lifetime(1, 64, 1, 2),
        lifetime(2, 64, 2, 3),
        lifetime(3, 64, 2, 4),
        lifetime(4, 64, 4, END),
    ];
    // Of two that are stored at once, one overwrites what dies.
    shared[2].overwrites = vec![Buffer(0)];
    shared[3].overwrites = vec![Buffer(0)];
    check(
        Limits::NONE,
        &shared,
        Ok(&[(0, 0), (0, 64), (0, 0), (0, 128), (0, 0)]),
    );
    // What lives on is not overwritten.
    shared[0].death = 3;
    check(
        Limits::NONE,
        &shared,
        Ok(&[(0, 0), (0, 64), (0, 128), (0, 192), (0, 0)]),
    );
}

#[test]
fn buffers_stay_within_one_binding() {
    let alive = [48, 48, 16, 64].into_iter().enumerate();
    let alive: Vec<Lifetime> = alive
        .map(|(index, bytes)| lifetime(index, bytes, 0, END))
        .collect();
    check(SMALL, &alive, Ok(&[(0, 0), (0, 64), (0, 48), (1, 0)]));
    check(
        SMALL,
        &[lifetime(0, 64, 0, 1), lifetime(1, 65, 1, END)],
        Err("b1 (conv down.1) needs 65 bytes, wanted at most 64 in one binding"),
    );
    check(
        Limits::NONE,
        &[lifetime(0, 1 << 63, 0, 1), lifetime(1, 1 << 63, 2, 3)],
        Err("2 buffers need more than 2^64 bytes together"),
    );
    check(SMALL, &[lifetime(0, 0, 0, 0)], Ok(&[(0, 0)]));
    check(SMALL, &[], Ok(&[]));
}

/// Every rule that a plan keeps, told by its addresses alone.
fn assert_sound(found: &Plan, lifetimes: &[Lifetime]) {
    let limits = found.limits;
    assert_eq!(found.places.len(), lifetimes.len());
    let ranges: Vec<(usize, u64, u64)> = lifetimes
        .iter()
        .map(|lifetime| {
            let place = found
                .place(lifetime.buffer)
                .expect("every buffer has a place");
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
            let overwrites = a.death == b.birth && b.overwrites.contains(&a.buffer);
            assert!(overwrites, "{a:?} and {b:?} overlap");
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

/// What lies in memory: the buffer, and the number of its element in the order of its axes.
type Mark = Option<(Buffer, usize)>;

/// Slabs whose elements remember what was stored in them last.
struct Memory<'a> {
    plan: &'a Plan,
    regions: &'a Regions,
    slabs: Vec<Vec<Mark>>,
}

impl Memory<'_> {
    /// Where an element lies, as slab and byte, and its number.
    fn address(&self, buffer: Buffer, at: &[usize]) -> Option<(usize, usize, usize)> {
        let (slab, offset) = self.plan.address(self.plan.place(buffer)?);
        let data = self.regions.buffer(buffer);
        let places = at.iter().zip(data.strides());
        let place: usize = places.map(|(at, stride)| at * stride).sum();
        let shape = &data.extents.shape;
        let number = at.iter().zip(shape).fold(0, |sum, (at, n)| sum * n + at);
        let bytes = data.extents.dtype.bytes();
        Some((slab, offset as usize + place * bytes, number))
    }

    fn store(&mut self, buffer: Buffer, at: &[usize]) {
        if let Some((slab, byte, number)) = self.address(buffer, at) {
            let bytes = self.regions.buffer(buffer).extents.dtype.bytes();
            self.slabs[slab][byte..byte + bytes].fill(Some((buffer, number)));
        }
    }

    fn load(&self, buffer: Buffer, at: &[usize]) {
        if let Some((slab, byte, number)) = self.address(buffer, at) {
            let bytes = self.regions.buffer(buffer).extents.dtype.bytes();
            let wanted = Some((buffer, number));
            let found = &self.slabs[slab][byte..byte + bytes];
            assert!(found.iter().all(|mark| *mark == wanted), "{buffer} is gone");
        }
    }

    fn store_all(&mut self, buffer: Buffer) {
        let shape = self.regions.buffer(buffer).extents.shape.clone();
        each(&shape, |at| self.store(buffer, at));
    }

    fn load_all(&self, buffer: Buffer) {
        each(&self.regions.buffer(buffer).extents.shape, |at| {
            self.load(buffer, at)
        });
    }

    fn load_access(&self, region: &Region, operand: usize, at: &[usize]) {
        for piece in &region.operands[operand].pieces {
            if piece.bounds.iter().all(|bound| bound.holds(at)) {
                self.load(piece.buffer, &walked(&piece.index, at));
            }
        }
    }

    /// The anchor first; then every output in turn, element by element.
    fn run(&mut self, region: &Region) {
        for operand in 0..region.anchor_operands() {
            each(&region.operands[operand].shape, |at| {
                self.load_access(region, operand, at)
            });
        }
        for output in &region.outputs {
            each(&output.domain, |at| self.run_element(region, output, at));
            if let Some(moments) = output.moments {
                self.store_all(moments);
            }
        }
        for buffer in region.stores() {
            self.load_all(buffer);
        }
    }

    fn run_element(&mut self, region: &Region, output: &Output, at: &[usize]) {
        for node in &output.nodes {
            if let Node::Read(operand) = node {
                self.load_access(region, *operand, at);
            }
        }
        self.store(output.buffer, &walked(&output.store, at));
    }
}

fn walked(walk: &[Index], at: &[usize]) -> Vec<usize> {
    walk.iter().map(|index| index.at(at) as usize).collect()
}

/// Calls `visit` with every index of a domain.
fn each(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    let count: usize = shape.iter().product();
    for number in 0..count {
        let mut rest = number;
        let mut at = vec![0; shape.len()];
        for (at, extent) in at.iter_mut().zip(shape).rev() {
            (*at, rest) = (rest % extent, rest / extent);
        }
        visit(&at);
    }
}

/// Runs regions on memory that remembers; every element must be there when it is read, and every
/// result at the end.
fn assert_runs(plan: &Plan, regions: &Regions) {
    let sizes = plan.slabs.iter().map(|&bytes| bytes as usize);
    let mut memory = Memory {
        plan,
        regions,
        slabs: sizes.map(|bytes| vec![None; bytes]).collect(),
    };
    for (number, data) in regions.buffers.iter().enumerate() {
        if matches!(&data.content, Content::Param(param) if param.role == Role::Input) {
            memory.store_all(Buffer(number as u32));
        }
    }
    for region in &regions.regions {
        memory.run(region);
    }
    for &(_, buffer) in &regions.results {
        memory.load_all(buffer);
    }
}

/// What each stored buffer overwrites in the regions of a function that returns `y`.
fn check_overwrites(body: &str, wanted: &[(u32, u32)]) {
    let module = parse(&format!("func f {{\n{body}\n}}\n")).expect("a graph");
    let regions = form(&module.funcs[0]).expect("known sizes").regions;
    let lifetimes = lifetimes(&regions);
    let found = plan(&lifetimes, &Limits::NONE).expect("it is small");
    assert_sound(&found, &lifetimes);
    assert_runs(&found, &regions);
    let shared = found.places.iter();
    let shared = shared.filter_map(|place| Some((place.buffer.0, place.shares?.0)));
    assert_eq!(shared.collect::<Vec<_>>(), wanted, "{regions}");
}

#[test]
fn a_residual_is_overwritten_where_it_is_added() {
    const CONV: &str = "{strides = [1, 1], pads_before = [0, 0], pads_after = [0, 0], \
        dilations = [1, 1], groups = 1}";
    // b3 lies channels last, and so does the sum with it.
    let residual = |last: &str| {
        format!(
            "%0 = input \"x\" : f32[2, 6, 3, 4]
            %1 = weight \"w\" : f32[6, 6, 1, 1]
            %2 = conv(%0, %1) {CONV}
            %3 = conv(%0, %1) {CONV}
            %4 = silu(%2)
            %5 = conv(%4, %1) {CONV}
            %6 = add(%5, %3)
            {last}"
        )
    };
    let inner = format!("%7 = conv(%6, %1) {CONV}\nreturn \"y\" %7");
    check_overwrites(&residual(&inner), &[(6, 3)]);
    // The result lies as its axes are numbered.
    check_overwrites(&residual("return \"y\" %6"), &[]);
    // What is also read by the anchor, or at another element, stays.
    let tokens = |read: &str| {
        format!(
            "%0 = input \"x\" : f32[4, 4]
            %1 = weight \"w\" : f32[4, 4]
            %2 = linear(%0, %1)
            %3 = transpose(%2) {{permutation = [1, 0]}}
            %4 = softmax(%2) {{axis = 1}}
            %5 = linear(%4, %1)
            %6 = add({read})
            return \"y\" %6"
        )
    };
    check_overwrites(&tokens("%5, %2"), &[(5, 2)]);
    check_overwrites(&tokens("%5, %3"), &[]);
}

/// Buffers with what they may overwrite: bytes, a wait after the last birth, ticks to live, and
/// two choices.
type Seed = (u16, u8, u8, u8, u8);

fn random_lifetimes(seeds: &[Seed]) -> Vec<Lifetime> {
    let mut now = 0;
    let mut lifetimes: Vec<Lifetime> = Vec::new();
    for (index, &(bytes, wait, ticks, choice, other)) in seeds.iter().enumerate() {
        now += u32::from(wait % 3);
        let death = if ticks > 250 {
            END
        } else {
            now + u32::from(ticks % 16)
        };
        let mut next = lifetime(index, u64::from(bytes % 700), now, death);
        let alive: Vec<usize> = (0..index)
            .filter(|&i| lifetimes[i].birth < now && lifetimes[i].death >= now)
            .collect();
        if let Some(&base) = alive.get(usize::from(other) % alive.len().max(1))
            && choice % 3 == 0
        {
            next.bytes = lifetimes[base].bytes;
            next.overwrites = vec![lifetimes[base].buffer];
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
            ..Limits::NONE
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
            let regions = form(&func).expect("known sizes").regions;
            let lifetimes = lifetimes(&regions);
            if let Ok(found) = plan(&lifetimes, &limits) {
                assert_sound(&found, &lifetimes);
                assert_runs(&found, &regions);
            }
        }
    }
}
