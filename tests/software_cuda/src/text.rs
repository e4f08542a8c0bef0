//! An executor of PTX text, thread by thread: what shows that a printer says what a kernel does.
//!
//! Takes a text, the addresses of its parameters and memory, executes one block after the other. It
//! reads the text alone and shares nothing with the printer; each instruction is what the PTX ISA
//! says of it.

use std::collections::HashMap;

use crate::copies::Copies;
use crate::functions::{Function, Half, function};
use crate::memory::Memory;

/// What an instruction names.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Register(usize),
    Number(u64),
    Vector(Vec<usize>),
    Name(String),
}

#[derive(Debug)]
struct Instruction {
    /// Whether it is done where the register is false, and the register.
    guard: Option<(bool, usize)>,
    action: Action,
    operands: Vec<Operand>,
    line: String,
}

/// What an instruction does.
#[derive(Debug, Clone, Copy)]
enum Action {
    Barrier,
    Return,
    Branch,
    /// A parameter becomes a register.
    Parameter,
    /// From a space, with the bytes of each lane.
    Load(Space, usize),
    /// To a space, with the bytes of each lane.
    Store(Space, usize),
    /// The halves of a word become two registers.
    Split,
    Compute(Function),
    /// A product of matrices by a warp, of these halves.
    Mma(Half),
    /// A value of the thread whose number differs in some bits.
    Shuffle,
    /// Matrices of a warp, each transposed or not.
    Matrices(bool),
    /// Bytes go to shared memory while the thread goes on.
    Copy,
    /// The copies since the last one become a group.
    Commit,
    /// All groups arrive, except a number of the most recent ones.
    Wait,
}

/// Why a thread stops.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stop {
    Done,
    Barrier,
    /// It waits for its warp.
    Warp,
}

/// Threads of a warp.
const WARP: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Space {
    Global,
    Shared,
}

/// A text, read.
#[derive(Debug, Default)]
pub struct Text {
    parameters: Vec<String>,
    threads: u32,
    /// Where each shared memory begins.
    shared: HashMap<String, u64>,
    shared_bytes: u64,
    registers: HashMap<String, usize>,
    instructions: Vec<Instruction>,
    labels: HashMap<String, usize>,
}

impl Text {
    /// Reads a text.
    ///
    /// # Panics
    /// When the text is not one that splamc prints.
    pub fn read(text: &str) -> Text {
        let mut read = Text::default();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix(".param ") {
                let declared = rest.split(" /*").next().expect("a declaration");
                let name = declared.trim_end_matches(',').rsplit(' ').next();
                read.parameters.push(name.expect("a name").to_owned());
            } else if let Some(rest) = line.strip_prefix(".reqntid ") {
                let threads = rest.split(',').next().expect("a number");
                read.threads = threads.parse().expect("a number");
            } else if let Some(rest) = line.strip_prefix(".shared .align 16 .b8 ") {
                let (name, bytes) = rest.split_once('[').expect("an array");
                read.shared.insert(name.to_owned(), read.shared_bytes);
                let bytes: u64 = bytes.trim_end_matches("];").parse().expect("bytes");
                read.shared_bytes += bytes.next_multiple_of(16);
            } else if let Some(label) = line.strip_suffix(':') {
                let place = read.instructions.len();
                read.labels.insert(label.to_owned(), place);
            } else if line.ends_with(';') && !line.starts_with('.') {
                let instruction = read.instruction(line);
                read.instructions.push(instruction);
            }
        }
        read
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        self.parameters.len()
    }

    fn register(&mut self, name: &str) -> usize {
        let next = self.registers.len();
        *self.registers.entry(name.to_owned()).or_insert(next)
    }

    fn instruction(&mut self, line: &str) -> Instruction {
        let mut rest = line.trim_end_matches(';');
        let mut guard = None;
        if let Some(guarded) = rest.strip_prefix('@') {
            let (name, after) = guarded.split_once(' ').expect("an instruction");
            let is_negated = name.starts_with('!');
            guard = Some((is_negated, self.register(name.trim_start_matches('!'))));
            rest = after;
        }
        let (name, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        let operands: Vec<Operand> = parts(operands)
            .iter()
            .map(|part| self.operand(part))
            .collect();
        let name: Vec<&str> = name.split('.').collect();
        Instruction {
            guard,
            action: action(&name, &operands).unwrap_or_else(|| panic!("unknown: {line}")),
            operands,
            line: line.to_owned(),
        }
    }

    fn operand(&mut self, text: &str) -> Operand {
        if let Some(vector) = text.strip_prefix('{') {
            let lanes = vector.trim_end_matches('}').split(',').map(str::trim);
            return Operand::Vector(lanes.map(|lane| self.register(lane)).collect());
        }
        let text = text.trim_start_matches('[').trim_end_matches(']');
        if text.starts_with('%') && !text.contains('.') {
            return Operand::Register(self.register(text));
        }
        match number(text) {
            Some(number) => Operand::Number(number),
            None => Operand::Name(text.to_owned()),
        }
    }

    /// Executes all blocks.
    ///
    /// # Panics
    /// When an access leaves what is reserved, or threads part at a barrier.
    pub fn run(&self, grid: [u32; 3], arguments: &[u64], memory: &mut Memory) {
        for z in 0..grid[2] {
            for y in 0..grid[1] {
                for x in 0..grid[0] {
                    let mut block = Block {
                        text: self,
                        group: [x, y, z],
                        // What nobody has written is not 0.
                        shared: vec![0xEE; self.shared_bytes as usize],
                        arguments,
                        memory,
                    };
                    block.run();
                }
            }
        }
    }
}

/// Operands between commas, but for those within braces.
fn parts(operands: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0);
    for c in operands.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

/// What an instruction of that name does; `None` for one that is not known.
fn action(name: &[&str], operands: &[Operand]) -> Option<Action> {
    let ty = *name.last()?;
    let space = |name: &str| match name {
        "shared" => Space::Shared,
        _ => Space::Global,
    };
    let action = match name[0] {
        "bar" => Action::Barrier,
        "ret" => Action::Return,
        "bra" => Action::Branch,
        "ld" if name[1] == "param" => Action::Parameter,
        "ld" => Action::Load(space(name[1]), width(ty)),
        "st" => Action::Store(space(name[1]), width(ty)),
        "mma" if name.ends_with(&["f32", "f16", "f16", "f32"]) => Action::Mma(Half::F16),
        "mma" if name.ends_with(&["f32", "bf16", "bf16", "f32"]) => Action::Mma(Half::Bf16),
        "shfl" if name[1..] == ["sync", "bfly", "b32"] => Action::Shuffle,
        "ldmatrix" if name[1..4] == ["sync", "aligned", "m8n8"] && name.ends_with(&["b16"]) => {
            Action::Matrices(name.contains(&"trans"))
        }
        "cp" if name[1..] == ["async", "cg", "shared", "global"] => Action::Copy,
        "cp" if name[1..] == ["async", "commit_group"] => Action::Commit,
        "cp" if name[1..] == ["async", "wait_group"] => Action::Wait,
        "mov" if matches!(operands[0], Operand::Vector(_)) => Action::Split,
        _ => Action::Compute(function(name)?),
    };
    Some(action)
}

/// Bytes of a type.
fn width(ty: &str) -> usize {
    let bits: usize = ty[1..].parse().expect("a type with its bits");
    bits / 8
}

/// An integer, or a float by its bits.
fn number(text: &str) -> Option<u64> {
    if let Some(bits) = text.strip_prefix("0f") {
        return u32::from_str_radix(bits, 16).ok().map(u64::from);
    }
    if let Some(bits) = text.strip_prefix("0x") {
        return u64::from_str_radix(bits, 16).ok();
    }
    text.parse::<i64>().ok().map(i64::cast_unsigned)
}

struct Block<'a> {
    text: &'a Text,
    group: [u32; 3],
    shared: Vec<u8>,
    arguments: &'a [u64],
    memory: &'a mut Memory,
}

struct Thread {
    number: u32,
    place: usize,
    registers: Vec<u64>,
    copies: Copies,
}

impl Block<'_> {
    fn run(&mut self) {
        // Lanes of vectors may be numbers, which nothing writes.
        let mut start = vec![0; self.text.registers.len()];
        for (name, place) in &self.text.registers {
            start[*place] = number(name).unwrap_or(0);
        }
        let threads = (0..self.text.threads).map(|number| Thread {
            number,
            place: 0,
            registers: start.clone(),
            copies: Copies::default(),
        });
        let mut threads: Vec<Thread> = threads.collect();
        loop {
            let warps = threads.chunks_mut(WARP).map(|warp| self.warp(warp));
            let stops: Vec<(usize, Stop)> = warps.collect();
            assert!(
                stops.iter().all(|stop| *stop == stops[0]),
                "a barrier is not reached by all"
            );
            if stops[0].1 == Stop::Done {
                return;
            }
        }
    }

    /// Executes a warp up to a barrier or its end; returns where and why it stops.
    fn warp(&mut self, threads: &mut [Thread]) -> (usize, Stop) {
        loop {
            let stops = threads.iter_mut().map(|thread| {
                let stop = self.until_stop(thread);
                (thread.place, stop)
            });
            let stops: Vec<(usize, Stop)> = stops.collect();
            let (place, stop) = stops[0];
            assert!(
                stops.iter().all(|own| *own == (place, stop)),
                "a warp stops in two places"
            );
            if stop != Stop::Warp {
                return (place, stop);
            }
            let instruction = &self.text.instructions[place];
            match instruction.action {
                Action::Mma(half) => mma(threads, instruction, half),
                Action::Shuffle => shuffle(threads, instruction),
                Action::Matrices(transposed) => self.matrices(threads, instruction, transposed),
                _ => unreachable!("threads wait for nothing else"),
            }
            threads.iter_mut().for_each(|thread| thread.place += 1);
        }
    }

    fn until_stop(&mut self, thread: &mut Thread) -> Stop {
        loop {
            let instruction = &self.text.instructions[thread.place];
            thread.place += 1;
            if let Some((is_negated, register)) = instruction.guard
                && (thread.registers[register] != 0) == is_negated
            {
                continue;
            }
            match instruction.action {
                Action::Barrier => return Stop::Barrier,
                Action::Return => return Stop::Done,
                Action::Mma(_) | Action::Shuffle | Action::Matrices(_) => {
                    thread.place -= 1;
                    return Stop::Warp;
                }
                Action::Branch => {
                    let Operand::Name(label) = &instruction.operands[0] else {
                        panic!("{}", instruction.line);
                    };
                    thread.place = self.text.labels[label];
                }
                Action::Parameter => {
                    thread.registers[instruction.to()] = self.value(thread, instruction, 1);
                }
                Action::Load(space, each) => self.load(thread, instruction, space, each),
                Action::Store(space, each) => self.store(thread, instruction, space, each),
                Action::Copy => self.copy(thread, instruction),
                Action::Commit => thread.copies.commit(),
                Action::Wait => {
                    let latest = self.value(thread, instruction, 0);
                    for (to, bytes) in thread.copies.wait(latest as usize) {
                        self.bytes(Space::Shared, to, 16).copy_from_slice(&bytes);
                    }
                }
                Action::Split => {
                    let word = self.value(thread, instruction, 1);
                    let to = instruction.lanes(0);
                    thread.registers[to[0]] = word & 0xFFFF;
                    thread.registers[to[1]] = word >> 16 & 0xFFFF;
                }
                Action::Compute(function) => {
                    let mut given = [0; 3];
                    for operand in 1..instruction.operands.len() {
                        given[operand - 1] = self.value(thread, instruction, operand);
                    }
                    thread.registers[instruction.to()] = function(&given);
                }
            }
        }
    }

    fn value(&self, thread: &Thread, instruction: &Instruction, operand: usize) -> u64 {
        match &instruction.operands[operand] {
            Operand::Register(place) => thread.registers[*place],
            Operand::Number(number) => *number,
            Operand::Name(name) => match name.as_str() {
                "%tid.x" => thread.number.into(),
                "%ctaid.x" => self.group[0].into(),
                "%ctaid.y" => self.group[1].into(),
                "%ctaid.z" => self.group[2].into(),
                name => match self.text.parameters.iter().position(|own| own == name) {
                    Some(place) => self.arguments[place],
                    None => self.text.shared[name],
                },
            },
            Operand::Vector(_) => panic!("{}: a vector is not one number", instruction.line),
        }
    }

    fn bytes(&mut self, space: Space, address: u64, count: usize) -> &mut [u8] {
        assert!(
            address.is_multiple_of(count as u64),
            "{address:#x} is not aligned to {count}"
        );
        match space {
            Space::Shared => &mut self.shared[address as usize..address as usize + count],
            Space::Global => {
                let bytes = self.memory.at(address, count);
                bytes.unwrap_or_else(|| panic!("{count} bytes at {address:#x} are not reserved"))
            }
        }
    }

    fn load(&mut self, thread: &mut Thread, instruction: &Instruction, space: Space, each: usize) {
        let (to, address) = (instruction.lanes(0), self.value(thread, instruction, 1));
        let bytes = self.bytes(space, address, each * to.len());
        for (lane, bytes) in to.iter().zip(bytes.chunks(each)) {
            let mut word = [0; 8];
            word[..each].copy_from_slice(bytes);
            thread.registers[*lane] = u64::from_le_bytes(word);
        }
    }

    /// 16 bytes on their way: nobody sees them, nor what was there, before they have arrived.
    fn copy(&mut self, thread: &mut Thread, instruction: &Instruction) {
        let [to, from, all, read] =
            [0, 1, 2, 3].map(|operand| self.value(thread, instruction, operand));
        assert_eq!(all, 16, "{}", instruction.line);
        let mut bytes = [0; 16];
        if read > 0 {
            let read = read as usize;
            bytes[..read].copy_from_slice(self.bytes(Space::Global, from, read));
        }
        self.bytes(Space::Shared, to, 16).fill(0xDD);
        thread.copies.begin(to, bytes);
    }

    /// Rows of 16 bytes spread over the warp; PTX ISA, "Warp-level matrix load instruction".
    fn matrices(&mut self, threads: &mut [Thread], instruction: &Instruction, transposed: bool) {
        let to = instruction.lanes(0).to_vec();
        for (matrix, register) in to.into_iter().enumerate() {
            let address = |thread: &Thread| self.value(thread, instruction, 1);
            let rows = rows_of(threads, address, matrix);
            let mut numbers = [[0u64; 8]; 8];
            for (row, numbers) in rows.into_iter().zip(&mut numbers) {
                let bytes = self.bytes(Space::Shared, row, 16);
                for (number, pair) in numbers.iter_mut().zip(bytes.chunks(2)) {
                    *number = u16::from_le_bytes([pair[0], pair[1]]).into();
                }
            }
            for (lane, thread) in threads.iter_mut().enumerate() {
                let (row, first) = (lane / 4, lane % 4 * 2);
                let [low, high] = match transposed {
                    true => [numbers[first][row], numbers[first + 1][row]],
                    false => [numbers[row][first], numbers[row][first + 1]],
                };
                thread.registers[register] = low | high << 16;
            }
        }
    }

    fn store(&mut self, thread: &Thread, instruction: &Instruction, space: Space, each: usize) {
        let address = self.value(thread, instruction, 0);
        let from = match &instruction.operands[1] {
            Operand::Vector(lanes) => lanes.iter().map(|lane| thread.registers[*lane]).collect(),
            _ => vec![self.value(thread, instruction, 1)],
        };
        let bytes = self.bytes(space, address, each * from.len());
        for (value, bytes) in from.into_iter().zip(bytes.chunks_mut(each)) {
            bytes.copy_from_slice(&value.to_le_bytes()[..each]);
        }
    }
}

/// The matrices that a warp loads: those of the rows whose addresses the first threads have.
fn rows_of(threads: &[Thread], addresses: impl Fn(&Thread) -> u64, matrix: usize) -> [u64; 8] {
    std::array::from_fn(|row| addresses(&threads[8 * matrix + row]))
}

/// D = A · B + C, with fragments as the PTX ISA gives them: "Matrix Fragments for mma.m16n8k16 with
/// floating point type", and the same for mma.m16n8k8.
fn mma(threads: &mut [Thread], instruction: &Instruction, half: Half) {
    let [to, a, b, c] = [0, 1, 2, 3].map(|operand| instruction.lanes(operand));
    // m16n8k8 has the first half of the registers of m16n8k16.
    let depth = 4 * a.len();
    let (mut left, mut right) = ([[0.0f64; 16]; 16], [[0.0f64; 8]; 16]);
    for (lane, thread) in threads.iter().enumerate() {
        let (group, in_group) = (lane / 4, lane % 4);
        for i in 0..2 * a.len() {
            let row = if i < 2 || (4..6).contains(&i) {
                group
            } else {
                group + 8
            };
            let column = in_group * 2 + i % 2 + if i < 4 { 0 } else { 8 };
            left[row][column] = half.read(thread.registers[a[i / 2]], i % 2);
        }
        for i in 0..2 * b.len() {
            let row = in_group * 2 + i % 2 + if i < 2 { 0 } else { 8 };
            right[row][group] = half.read(thread.registers[b[i / 2]], i % 2);
        }
    }
    for (lane, thread) in threads.iter_mut().enumerate() {
        let (group, in_group) = (lane / 4, lane % 4);
        let sums: Vec<u64> = (0..4)
            .map(|i| {
                let row = if i < 2 { group } else { group + 8 };
                let column = in_group * 2 + i % 2;
                let products = (0..depth).map(|k| left[row][k] * right[k][column]);
                let before = f32::from_bits(thread.registers[c[i]] as u32);
                let sum = f64::from(before) + products.sum::<f64>();
                u64::from((sum as f32).to_bits())
            })
            .collect();
        for (register, sum) in to.iter().zip(sums) {
            thread.registers[*register] = sum;
        }
    }
}

/// The butterfly: each thread gets what the one has whose number differs in the bits.
fn shuffle(threads: &mut [Thread], instruction: &Instruction) {
    let Operand::Number(bits) = instruction.operands[2] else {
        panic!("{}: the bits are not a number", instruction.line);
    };
    let from: Vec<u64> = threads
        .iter()
        .map(|thread| match &instruction.operands[1] {
            Operand::Register(place) => thread.registers[*place],
            Operand::Number(number) => *number,
            _ => panic!("{}", instruction.line),
        })
        .collect();
    for (lane, thread) in threads.iter_mut().enumerate() {
        thread.registers[instruction.to()] = from[lane ^ bits as usize];
    }
}

impl Instruction {
    /// The register of the result.
    fn to(&self) -> usize {
        match &self.operands[0] {
            Operand::Register(place) => *place,
            _ => panic!("{}: the result is not a register", self.line),
        }
    }

    /// The registers of an operand.
    fn lanes(&self, operand: usize) -> &[usize] {
        match &self.operands[operand] {
            Operand::Register(place) => std::slice::from_ref(place),
            Operand::Vector(lanes) => lanes,
            _ => panic!("{}: operand {operand} is not of registers", self.line),
        }
    }
}
