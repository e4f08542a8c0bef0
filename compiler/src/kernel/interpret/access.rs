//! Accesses to memory of the interpreter.
//!
//! Takes which invocations access what, gives the words that they load, leaves what they store or
//! copy, and counts what that needs where it is wanted.

use crate::kernel::interpret::fault::FaultKind;
use crate::kernel::interpret::memory::{Bank, SEVERAL, Wrong};
use crate::kernel::interpret::run::{Done, Machine};
use crate::kernel::interpret::traffic::{Counter, Request};
use crate::kernel::{
    CHUNK_BYTES, ChunkCopy, Expression, MatrixLoad, Memory, Scalar, Statement, Type, Value, WARP,
};

impl Machine<'_> {
    /// The memory, and the number before that of its first invocation of this workgroup.
    fn bank(&mut self, memory: Memory) -> (&mut Bank, u32) {
        match memory {
            Memory::Buffer(id) => {
                let before = self.turn * self.kernel.invocations;
                (&mut self.buffers[id.0 as usize], before)
            }
            Memory::Shared(id) => {
                let owner = self.kernel.owner(id);
                (&mut self.shared[owner.0 as usize], 0)
            }
        }
    }

    pub(super) fn load(
        &mut self,
        value: Value,
        memory: Memory,
        index: Value,
        active: &[u32],
    ) -> Done {
        let mut to = self.fresh(value);
        let size = self.size();
        let indices = std::mem::take(&mut self.words[index.0 as usize]);
        let view = self.view(memory);
        let (bank, before) = self.bank(memory);
        let mut done = Ok(());
        for &who in active {
            match bank.load(view, before + who + 1, indices[who as usize]) {
                Ok(words) => {
                    for (lane, word) in words.iter().enumerate() {
                        to[lane * size + who as usize] = *word;
                    }
                }
                Err(wrong) => {
                    done = Err((who, wrong));
                    break;
                }
            }
        }
        self.words[index.0 as usize] = indices;
        self.words[value.0 as usize] = to;
        done
    }

    pub(super) fn store(
        &mut self,
        memory: Memory,
        [index, value]: [Value; 2],
        active: &[u32],
    ) -> Done {
        let size = self.size();
        let indices = self.words[index.0 as usize].clone();
        let words = std::mem::take(&mut self.words[value.0 as usize]);
        let view = self.view(memory);
        let (bank, before) = self.bank(memory);
        let done = active.iter().try_for_each(|&who| {
            let word = |lane: usize| words[lane * size + who as usize];
            let stored = bank.store(view, before + who + 1, indices[who as usize], word);
            stored.map_err(|wrong| (who, wrong))
        });
        self.words[value.0 as usize] = words;
        done
    }

    /// See [`Expression::LoadMatrix`]. All invocations are there.
    pub(super) fn load_matrix(&mut self, value: Value, load: &MatrixLoad) -> Done {
        let mut to = self.fresh(value);
        let size = self.size();
        let rows = self.words[load.row.0 as usize].clone();
        let memory = Memory::Shared(load.shared);
        let view = self.view(memory);
        let (bank, _) = self.bank(memory);
        for warp in (0..size).step_by(WARP as usize) {
            for matrix in 0..usize::from(load.count) {
                let mut numbers = [[0; 8]; 8];
                for (row, numbers) in numbers.iter_mut().enumerate() {
                    let giver = warp + 8 * matrix + row;
                    // Whoever stored it, others of the warp read it.
                    let read = bank.load(view, SEVERAL, rows[giver]);
                    let words = read.map_err(|wrong| (giver as u32, wrong))?;
                    for (number, half) in numbers.iter_mut().enumerate() {
                        *half = words[number / 2] >> (16 * (number % 2)) & 0xFFFF;
                    }
                }
                for lane in 0..WARP as usize {
                    let (g, t) = (lane / 4, lane % 4);
                    let [low, high] = match load.transposed {
                        false => [numbers[g][2 * t], numbers[g][2 * t + 1]],
                        true => [numbers[2 * t][g], numbers[2 * t + 1][g]],
                    };
                    to[matrix * size + warp + lane] = low | high << 16;
                }
            }
        }
        self.words[value.0 as usize] = to;
        Ok(())
    }

    /// See [`Statement::Copy`].
    pub(super) fn copy_chunks(&mut self, copy: &ChunkCopy, active: &[u32]) -> Done {
        let of = |value: Value| self.words[value.0 as usize].clone();
        let (places, indices, holds) = (of(copy.place), of(copy.index), of(copy.holds));
        let from = self.view(Memory::Buffer(copy.buffer));
        let to = self.view(Memory::Shared(copy.shared));
        let multiple = (CHUNK_BYTES / from.element.bytes()).max(1);
        for &who in active {
            let at = who as usize;
            let fault = |wrong| (who, wrong);
            let mut words = [0; 4];
            if holds[at] != 0 {
                if !indices[at].is_multiple_of(multiple) {
                    return Err(fault(Wrong::Plain(FaultKind::Unaligned {
                        memory: from.name.to_owned(),
                        index: indices[at].cast_signed(),
                        multiple,
                    })));
                }
                let (bank, before) = self.bank(Memory::Buffer(copy.buffer));
                let mut numbers = Vec::with_capacity(8);
                for element in 0..multiple {
                    let index = indices[at].wrapping_add(element);
                    let read = bank.load(from, before + who + 1, index).map_err(fault)?;
                    numbers.extend_from_slice(read);
                }
                words = packed(from.element, &numbers);
            }
            let (bank, _) = self.bank(Memory::Shared(copy.shared));
            let begun = bank.begin_copy(to, who + 1, places[at], &words);
            begun.map_err(fault)?;
            self.copies.begin(who, (copy.shared, places[at]));
        }
        Ok(())
    }

    /// See [`Statement::Wait`].
    pub(super) fn wait(&mut self, latest: u8, active: &[u32]) -> Done {
        for &who in active {
            for (shared, element) in self.copies.wait(who, latest) {
                let memory = Memory::Shared(shared);
                let view = self.view(memory);
                let (bank, _) = self.bank(memory);
                let ended = bank.end_copy(view, who + 1, element);
                ended.map_err(|wrong| (who, wrong))?;
            }
        }
        Ok(())
    }

    /// Counts what an access of these invocations needs.
    pub(super) fn count(
        &mut self,
        statement: &Statement,
        memory: Memory,
        index: Value,
        active: &[u32],
    ) {
        let bytes = u64::from(self.view(memory).element.bytes());
        let Some(mut counter) = self.counter.take() else {
            return;
        };
        let indices = &self.words[index.0 as usize];
        let byte = |&who: &u32| (who, u64::from(indices[who as usize]) * bytes);
        let accesses: Vec<(u32, u64)> = active.iter().map(byte).collect();
        self.request(&mut counter, statement, (memory, &accesses), bytes);
        self.counter = Some(counter);
    }

    fn request(
        &self,
        counter: &mut Counter,
        statement: &Statement,
        (memory, accesses): (Memory, &[(u32, u64)]),
        bytes: u64,
    ) {
        let request = Request {
            memory,
            bytes,
            accesses,
        };
        let address = std::ptr::from_ref(statement).addr();
        counter.count(address, &request, || {
            (self.kernel.line(statement), self.loops)
        });
    }

    pub(super) fn count_expression(
        &mut self,
        statement: &Statement,
        expression: &Expression,
        active: &[u32],
    ) {
        match expression {
            Expression::Load(memory, index) => self.count(statement, *memory, *index, active),
            Expression::LoadMatrix(load) => {
                let givers = |who: &&u32| **who % WARP < 8 * u32::from(load.count);
                let givers: Vec<u32> = active.iter().filter(givers).copied().collect();
                self.count(statement, Memory::Shared(load.shared), load.row, &givers);
            }
            _ => {}
        }
    }

    pub(super) fn count_copy(&mut self, statement: &Statement, copy: &ChunkCopy, active: &[u32]) {
        self.count(statement, Memory::Shared(copy.shared), copy.place, active);
        let Some(mut counter) = self.counter.take() else {
            return;
        };
        let of = |value: Value| &self.words[value.0 as usize];
        let (indices, holds) = (of(copy.index), of(copy.holds));
        let memory = Memory::Buffer(copy.buffer);
        let element = u64::from(self.view(memory).element.bytes());
        let reads = active.iter().filter(|who| holds[**who as usize] != 0);
        let accesses: Vec<(u32, u64)> = reads
            .map(|&who| (who, u64::from(indices[who as usize]) * element))
            .collect();
        let bytes = CHUNK_BYTES.into();
        self.request(&mut counter, statement, (memory, &accesses), bytes);
        self.counter = Some(counter);
    }
}

/// Lanes of elements as words of memory: two of F16 are one.
fn packed(element: Type, numbers: &[u32]) -> [u32; 4] {
    let mut words = [0; 4];
    match element.scalar {
        Scalar::F16 => {
            for (word, pair) in words.iter_mut().zip(numbers.chunks_exact(2)) {
                *word = pair[0] | pair[1] << 16;
            }
        }
        Scalar::Bool | Scalar::I32 | Scalar::U32 | Scalar::F32 => words.copy_from_slice(numbers),
    }
    words
}
