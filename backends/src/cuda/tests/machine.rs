//! An executor of PTX text, thread by thread: what shows that the printer says what the kernel does.
//!
//! Takes a text and memory as bytes, executes one block after the other. It reads the text alone
//! and shares nothing with the printer; each instruction is what the PTX ISA says of it.

use std::collections::HashMap;

use half::f16;

/// Memory begins at multiples of this, one for each buffer; shared memory at 0.
const BUFFER: u64 = 1 << 40;

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Register(usize),
    Number(u64),
    Vector(Vec<usize>),
    Address(usize),
    Name(String),
}

#[derive(Debug)]
struct Instruction {
    guard: Option<(bool, usize)>,
    /// The name and its suffixes.
    name: Vec<String>,
    operands: Vec<Operand>,
    line: String,
}

/// A text, read.
#[derive(Debug, Default)]
pub(crate) struct Text {
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
    pub(crate) fn read(text: &str) -> Text {
        let mut read = Text::default();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix(".param ") {
                let name = rest
                    .split(" /*")
                    .next()
                    .expect("a name")
                    .trim_end_matches(',');
                let name = name.rsplit(' ').next().expect("a name");
                read.parameters.push(name.to_owned());
            } else if let Some(rest) = line.strip_prefix(".reqntid ") {
                let threads = rest.split(',').next().expect("a number");
                read.threads = threads.parse().expect("a number");
            } else if let Some(rest) = line.strip_prefix(".shared .align 16 .b8 ") {
                let (name, bytes) = rest.split_once('[').expect("an array");
                read.shared.insert(name.to_owned(), read.shared_bytes);
                let bytes: u64 = bytes.trim_end_matches("];").parse().expect("bytes");
                read.shared_bytes += bytes.next_multiple_of(16);
            } else if let Some(label) = line.strip_suffix(':') {
                read.labels
                    .insert(label.to_owned(), read.instructions.len());
            } else if line.ends_with(';') && !line.starts_with('.') {
                let instruction = read.instruction(line);
                read.instructions.push(instruction);
            }
        }
        read
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
            let negated = name.starts_with('!');
            guard = Some((negated, self.register(name.trim_start_matches('!'))));
            rest = after;
        }
        let (name, operands) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut parts = Vec::new();
        let mut depth = 0;
        let mut part = String::new();
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
        let parts = parts
            .iter()
            .map(|part| part.trim())
            .filter(|part| !part.is_empty());
        Instruction {
            guard,
            name: name.split('.').map(str::to_owned).collect(),
            operands: parts.map(|part| self.operand(part)).collect(),
            line: line.to_owned(),
        }
    }

    fn operand(&mut self, text: &str) -> Operand {
        if let Some(vector) = text.strip_prefix('{') {
            let lanes = vector.trim_end_matches('}').split(',').map(str::trim);
            return Operand::Vector(lanes.map(|lane| self.lane(lane)).collect());
        }
        if let Some(address) = text.strip_prefix('[') {
            let address = address.trim_end_matches(']');
            return match address.starts_with('%') {
                true => Operand::Address(self.register(address)),
                false => Operand::Name(address.to_owned()),
            };
        }
        if text.starts_with('%') && !text.contains('.') {
            return Operand::Register(self.register(text));
        }
        match number(text) {
            Some(number) => Operand::Number(number),
            None => Operand::Name(text.to_owned()),
        }
    }

    /// A lane of a vector; numbers get a register of their own that nothing writes.
    fn lane(&mut self, text: &str) -> usize {
        self.register(text)
    }

    /// Executes all blocks; memory is one list of bytes for each parameter.
    pub(crate) fn run(&self, grid: [u32; 3], memory: &mut [Vec<u8>]) {
        for z in 0..grid[2] {
            for y in 0..grid[1] {
                for x in 0..grid[0] {
                    let mut block = Block {
                        text: self,
                        group: [x, y, z],
                        shared: vec![0xEE; self.shared_bytes as usize],
                        memory,
                    };
                    block.run();
                }
            }
        }
    }
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
    memory: &'a mut [Vec<u8>],
}

struct Thread {
    number: u32,
    place: usize,
    registers: Vec<u64>,
    is_done: bool,
}

impl Block<'_> {
    fn run(&mut self) {
        let mut start = vec![0; self.text.registers.len()];
        for (name, place) in &self.text.registers {
            if let Some(number) = number(name) {
                start[*place] = number;
            }
        }
        let threads = (0..self.text.threads).map(|number| Thread {
            number,
            place: 0,
            registers: start.clone(),
            is_done: false,
        });
        let mut threads: Vec<Thread> = threads.collect();
        while threads.iter().any(|thread| !thread.is_done) {
            for thread in &mut threads {
                self.until_barrier(thread);
            }
            let places = threads.iter().map(|thread| (thread.place, thread.is_done));
            let first = (threads[0].place, threads[0].is_done);
            assert!(
                places.clone().all(|place| place == first),
                "a barrier is not reached by all"
            );
        }
    }

    fn until_barrier(&mut self, thread: &mut Thread) {
        loop {
            let instruction = &self.text.instructions[thread.place];
            thread.place += 1;
            if let Some((negated, register)) = instruction.guard
                && (thread.registers[register] != 0) == negated
            {
                continue;
            }
            match instruction.name[0].as_str() {
                "bar" => return,
                "ret" => {
                    thread.is_done = true;
                    return;
                }
                "bra" => {
                    let Operand::Name(label) = &instruction.operands[0] else {
                        panic!("{}", instruction.line);
                    };
                    thread.place = self.text.labels[label];
                }
                _ => self.execute(thread, instruction),
            }
        }
    }

    fn value(&self, thread: &Thread, operand: &Operand) -> u64 {
        match operand {
            Operand::Register(place) | Operand::Address(place) => thread.registers[*place],
            Operand::Number(number) => *number,
            Operand::Name(name) => match name.as_str() {
                "%tid.x" => thread.number.into(),
                "%ctaid.x" => self.group[0].into(),
                "%ctaid.y" => self.group[1].into(),
                "%ctaid.z" => self.group[2].into(),
                name => match self.text.parameters.iter().position(|own| own == name) {
                    Some(place) => (place as u64 + 1) * BUFFER,
                    None => self.text.shared[name],
                },
            },
            Operand::Vector(_) => panic!("a vector is not one number"),
        }
    }

    fn bytes(&mut self, space: &str, address: u64, count: usize) -> &mut [u8] {
        assert!(
            address.is_multiple_of(count as u64),
            "{address} is not aligned to {count}"
        );
        let (bytes, first) = match space {
            "shared" => (&mut self.shared, address as usize),
            _ => {
                let buffer = (address / BUFFER - 1) as usize;
                (&mut self.memory[buffer], (address % BUFFER) as usize)
            }
        };
        &mut bytes[first..first + count]
    }

    fn execute(&mut self, thread: &mut Thread, instruction: &Instruction) {
        let name: Vec<&str> = instruction.name.iter().map(String::as_str).collect();
        let ty = *name.last().expect("a name");
        let operands = &instruction.operands;
        let lanes = |operand: &Operand| match operand {
            Operand::Vector(lanes) => lanes.clone(),
            Operand::Register(lane) => vec![*lane],
            _ => panic!("{}", instruction.line),
        };
        match name[0] {
            "ld" if name[1] == "param" => {
                let value = self.value(thread, &operands[1]);
                thread.registers[lanes(&operands[0])[0]] = value;
            }
            "ld" => {
                let (to, address) = (lanes(&operands[0]), self.value(thread, &operands[1]));
                let each = width(ty);
                let bytes = self.bytes(name[1], address, each * to.len()).to_vec();
                for (lane, bytes) in to.into_iter().zip(bytes.chunks(each)) {
                    let mut word = [0; 8];
                    word[..each].copy_from_slice(bytes);
                    thread.registers[lane] = u64::from_le_bytes(word);
                }
            }
            "st" => {
                let address = self.value(thread, &operands[0]);
                let from: Vec<u64> = match &operands[1] {
                    Operand::Vector(lanes) => lanes.iter().map(|l| thread.registers[*l]).collect(),
                    other => vec![self.value(thread, other)],
                };
                let each = width(ty);
                let bytes = self.bytes(name[1], address, each * from.len());
                for (value, bytes) in from.into_iter().zip(bytes.chunks_mut(each)) {
                    bytes.copy_from_slice(&value.to_le_bytes()[..each]);
                }
            }
            // The halves of a word.
            "mov" if matches!(operands[0], Operand::Vector(_)) => {
                let word = self.value(thread, &operands[1]);
                let to = lanes(&operands[0]);
                thread.registers[to[0]] = word & 0xFFFF;
                thread.registers[to[1]] = word >> 16 & 0xFFFF;
            }
            _ => {
                let given = operands[1..]
                    .iter()
                    .map(|operand| self.value(thread, operand));
                let given: Vec<u64> = given.collect();
                thread.registers[lanes(&operands[0])[0]] =
                    computed(&name, &given).unwrap_or_else(|| panic!("{}", instruction.line));
            }
        }
    }
}

/// Bytes of a type.
fn width(ty: &str) -> usize {
    ty[1..].parse::<usize>().expect("a type with its bits") / 8
}

fn float(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn signed(bits: u64) -> i32 {
    (bits as u32).cast_signed()
}

fn of_float(value: f32) -> u64 {
    value.to_bits().into()
}

fn of_signed(value: i32) -> u64 {
    value.cast_unsigned().into()
}

/// What an instruction without memory returns; `None` for one that is not known.
fn computed(name: &[&str], x: &[u64]) -> Option<u64> {
    let ty = *name.last()?;
    let result = match (name[0], ty) {
        ("mov" | "cvta", _) => x[0],
        ("add", "f32") => of_float(float(x[0]) + float(x[1])),
        ("sub", "f32") => of_float(float(x[0]) - float(x[1])),
        ("mul", "f32") => of_float(float(x[0]) * float(x[1])),
        ("div", "f32") => of_float(float(x[0]) / float(x[1])),
        ("fma", "f32") => of_float(float(x[0]).mul_add(float(x[1]), float(x[2]))),
        ("min", "f32") => of_float(float(x[0]).min(float(x[1]))),
        ("max", "f32") => of_float(float(x[0]).max(float(x[1]))),
        ("neg", "f32") => of_float(-float(x[0])),
        ("abs", "f32") => of_float(float(x[0]).abs()),
        ("sqrt", "f32") => of_float(float(x[0]).sqrt()),
        ("rsqrt", "f32") => of_float(1.0 / float(x[0]).sqrt()),
        ("ex2", "f32") => of_float(float(x[0]).exp2()),
        ("lg2", "f32") => of_float(float(x[0]).log2()),
        ("sin", "f32") => of_float(float(x[0]).sin()),
        ("cos", "f32") => of_float(float(x[0]).cos()),
        ("add", "s32" | "u32") => of_signed(signed(x[0]).wrapping_add(signed(x[1]))),
        ("sub", "s32" | "u32") => of_signed(signed(x[0]).wrapping_sub(signed(x[1]))),
        ("mul", "s32" | "u32") if name[1] == "lo" => {
            of_signed(signed(x[0]).wrapping_mul(signed(x[1])))
        }
        ("mad", "s32") if name[1] == "lo" => of_signed(
            signed(x[0])
                .wrapping_mul(signed(x[1]))
                .wrapping_add(signed(x[2])),
        ),
        ("mad", "s32") if name[1] == "wide" => {
            let product = i64::from(signed(x[0])) * i64::from(signed(x[1]));
            x[2].wrapping_add(product.cast_unsigned())
        }
        ("div", "s32") => of_signed(signed(x[0]).wrapping_div(signed(x[1]))),
        ("rem", "s32") => of_signed(signed(x[0]).wrapping_rem(signed(x[1]))),
        ("div", "u32") => u64::from(x[0] as u32 / x[1] as u32),
        ("rem", "u32") => u64::from(x[0] as u32 % x[1] as u32),
        ("min", "s32") => of_signed(signed(x[0]).min(signed(x[1]))),
        ("max", "s32") => of_signed(signed(x[0]).max(signed(x[1]))),
        ("min", "u32") => u64::from((x[0] as u32).min(x[1] as u32)),
        ("max", "u32") => u64::from((x[0] as u32).max(x[1] as u32)),
        ("neg", "s32") => of_signed(signed(x[0]).wrapping_neg()),
        ("abs", "s32") => of_signed(signed(x[0]).wrapping_abs()),
        ("and", "b32" | "pred") => x[0] & x[1],
        ("or", "b32" | "pred") => x[0] | x[1],
        ("xor", "b32" | "pred") => x[0] ^ x[1],
        ("not", "pred") => 1 - x[0],
        ("shl", "b32") => u64::from((x[0] as u32) << x[1]),
        ("shr", "u32") => u64::from(x[0] as u32 >> x[1]),
        ("shr", "s32") => of_signed(signed(x[0]) >> x[1]),
        ("selp", _) => match x[2] {
            0 => x[1],
            _ => x[0],
        },
        ("setp", "f32") => {
            let (a, b) = (float(x[0]), float(x[1]));
            let holds = match name[1] {
                "lt" => a < b,
                "le" => a <= b,
                "eq" => a == b,
                // Also where one is not a number.
                "neu" => !(a == b),
                _ => return None,
            };
            holds.into()
        }
        ("setp", "s32" | "u32") => {
            let (a, b) = match ty {
                "s32" => (i64::from(signed(x[0])), i64::from(signed(x[1]))),
                _ => (i64::from(x[0] as u32), i64::from(x[1] as u32)),
            };
            let holds = match name[1] {
                "lt" => a < b,
                "le" => a <= b,
                "eq" => a == b,
                "ne" => a != b,
                "ge" => a >= b,
                _ => return None,
            };
            holds.into()
        }
        ("cvt", from) => return converted(&name[1..], from, x),
        _ => return None,
    };
    Some(result)
}

/// What `cvt` returns: the type of the result stands before that of the operand.
fn converted(name: &[&str], from: &str, x: &[u64]) -> Option<u64> {
    let into = name[name.len() - 2];
    let half = |value: f32| u64::from(f16::from_f32(value).to_bits());
    let wide = |bits: u64| f16::from_bits(bits as u16).to_f32();
    let result = match (name, into, from) {
        (["rmi", ..], "f32", "f32") => of_float(float(x[0]).floor()),
        (["rpi", ..], "f32", "f32") => of_float(float(x[0]).ceil()),
        (["rni", ..], "f32", "f32") => of_float(float(x[0]).round_ties_even()),
        (["rzi", ..], "f32", "f32") => of_float(float(x[0]).trunc()),
        // "For .f16x2 … the converted value of a is stored in the upper half of d."
        (["rn", ..], "f16x2", "f32") => half(float(x[0])) << 16 | half(float(x[1])),
        (["rn", ..], "f16", "f32") => half(float(x[0])),
        (["rn", ..], "f16", "s32") => half(signed(x[0]) as f32),
        (["rn", ..], "f16", "u32") => half(x[0] as u32 as f32),
        (["rn", ..], "f32", "s32") => of_float(signed(x[0]) as f32),
        (["rn", ..], "f32", "u32") => of_float(x[0] as u32 as f32),
        (["f32", ..], "f32", "f16") => of_float(wide(x[0])),
        (["rzi", ..], "s32", "f32") => of_signed(float(x[0]) as i32),
        (["rzi", ..], "u32", "f32") => u64::from(float(x[0]) as u32),
        (["rzi", ..], "s32", "f16") => of_signed(wide(x[0]) as i32),
        (["rzi", ..], "u32", "f16") => u64::from(wide(x[0]) as u32),
        _ => return None,
    };
    Some(result)
}
