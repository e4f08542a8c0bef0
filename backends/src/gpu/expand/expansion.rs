//! A kernel under expansion: its builder, and the storage buffers that it binds.
//!
//! Takes how the buffers of a region are stored, returns the arguments of a kernel through which
//! their elements are read and stored. What a kernel computes is decided elsewhere.

use compiler::kernel::{Builder, Kernel, Scalar, Type};
use compiler::region::{Buffer, Region, Regions};
use compiler::target::Limits;
use compiler::tile::{BlockProgram, View};
use thiserror::Error;

use super::address::{self, Argument, Arguments};
use super::quads::{self, Along};
use crate::gpu::buffers::{head, number};
use crate::gpu::commands::{self, StoredAs};

/// Why a program has no kernel here; the host computes its region.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// The grid is larger than the target's.
    #[error("found {found} workgroups along an axis, wanted at most {most}")]
    Grid {
        /// Workgroups.
        found: usize,
        /// The limit.
        most: u32,
    },
    /// Tiles do not fit near a workgroup.
    #[error("the tiles do not fit in {bytes_max} bytes of workgroup memory")]
    Shared {
        /// The limit.
        bytes_max: u32,
    },
    /// An accumulator is too large for the registers.
    #[error("the accumulators do not fit in registers")]
    Registers,
    /// More storage buffers than the target binds.
    #[error("found {found} storage buffers, wanted at most {most}")]
    Buffers {
        /// Buffers.
        found: usize,
        /// The limit.
        most: u32,
    },
    /// Values that must share a storage buffer lie too far from one another.
    #[error("the values are {found} bytes from one another, wanted at most {most} in one binding")]
    Far {
        /// Bytes from the first to the last.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// An operator without expressions.
    #[error("the operator {name} has no kernel")]
    Operator {
        /// Its name.
        name: &'static str,
    },
    /// Steps that no expansion knows.
    #[error("the steps of the program have no kernel")]
    Steps,
}

/// A kernel with what its storage buffers are: each is one buffer, or the range of memory from the
/// first of several to the last.
#[derive(Debug, Clone)]
pub(crate) struct Expanded {
    pub(crate) kernel: Kernel,
    pub(crate) arguments: Vec<Vec<Buffer>>,
}

/// Where a buffer lies.
pub(crate) type Windows<'a> = &'a dyn Fn(Buffer) -> commands::Argument;

/// What an expansion is made of.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) regions: &'a Regions,
    pub(crate) region: &'a Region,
    pub(crate) program: &'a BlockProgram,
    /// How each buffer lies, by number.
    pub(crate) forms: &'a [StoredAs],
    /// Buffers that are read and lie where another one is stored: `(read, stored)`.
    pub(crate) shared: &'a [(Buffer, Buffer)],
    pub(crate) limits: Limits,
    /// Whether kernels may name F16.
    pub(crate) shader_f16: bool,
    /// Where each buffer of the region lies.
    pub(crate) windows: Windows<'a>,
}

/// A storage buffer that a kernel wants.
#[derive(Clone, Copy)]
struct Wanted {
    buffer: Buffer,
    in_quads: bool,
    written: bool,
}

/// A kernel that is being expanded.
pub(crate) struct Expansion<'a> {
    pub(crate) b: Builder,
    pub(crate) arguments: Arguments<'a>,
    pub(crate) regions: &'a Regions,
    pub(crate) region: &'a Region,
    pub(crate) limits: Limits,
    /// Workgroups of the grid.
    pub(crate) groups: [u32; 3],
    forms: &'a [StoredAs],
    shared: &'a [(Buffer, Buffer)],
    windows: Windows<'a>,
    shader_f16: bool,
    /// What each storage buffer of the kernel is.
    groups_of_buffers: Vec<Vec<Buffer>>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(request: Request<'a>) -> Expansion<'a> {
        Expansion {
            b: Builder::new("", Vec::new(), 1, [1; 3]),
            arguments: Arguments {
                regions: request.regions,
                list: Vec::new(),
            },
            regions: request.regions,
            region: request.region,
            limits: request.limits,
            groups: [1; 3],
            forms: request.forms,
            shared: request.shared,
            windows: request.windows,
            shader_f16: request.shader_f16,
            groups_of_buffers: Vec::new(),
        }
    }

    pub(super) fn finish(self) -> Expanded {
        Expanded {
            kernel: self.b.finish(),
            arguments: self.groups_of_buffers,
        }
    }

    /// Opens a kernel with a grid of workgroups and all buffers of the region.
    pub(crate) fn begin(
        &mut self,
        program: &BlockProgram,
        invocations: u32,
        groups: [usize; 3],
    ) -> Result<(), Refusal> {
        self.open(program.program, invocations, groups)?;
        let region = self.region;
        let views: Vec<&View> = program
            .views
            .iter()
            .chain(
                program
                    .outputs
                    .iter()
                    .flat_map(|views| views.reads.iter().flatten()),
            )
            .collect();
        let mut wanted = Vec::new();
        for (output, views) in region.outputs.iter().zip(&program.outputs) {
            wanted.push(Wanted {
                buffer: output.buffer,
                in_quads: quads::is_in_quads(region, output, views, self.regions),
                written: true,
            });
        }
        for buffer in region.reads() {
            // What lies in the memory of what is stored is its argument.
            if self.shared.iter().any(|(read, _)| *read == buffer) {
                continue;
            }
            let mut own = views.iter().filter(|view| {
                let mut pieces = view.access.pieces.iter();
                pieces.any(|piece| piece.buffer == buffer)
            });
            let in_quads = own.any(|view| {
                quads::shows(view, Along::Columns, self.regions)
                    || quads::shows(view, Along::Rows, self.regions)
            });
            wanted.push(Wanted {
                buffer,
                in_quads,
                written: false,
            });
        }
        self.bind(&wanted)?;
        for (read, stored) in self.shared {
            if region.reads().contains(read) {
                let mut argument = self.arguments.of(*stored);
                argument.buffer = *read;
                self.arguments.list.push(argument);
            }
        }
        Ok(())
    }

    /// Opens a kernel with one invocation per place, in workgroups of `invocations`.
    pub(crate) fn begin_list(
        &mut self,
        program: &BlockProgram,
        invocations: u32,
        places: usize,
    ) -> Result<(), Refusal> {
        let groups = places.div_ceil(invocations as usize).max(1);
        let lines = groups.div_ceil(self.limits.groups_max as usize);
        self.begin(program, invocations, [groups.div_ceil(lines), lines, 1])
    }

    fn open(&mut self, name: &str, invocations: u32, groups: [usize; 3]) -> Result<(), Refusal> {
        let most = self.limits.groups_max;
        for found in groups {
            if found > most as usize {
                return Err(Refusal::Grid { found, most });
            }
        }
        self.groups = groups.map(|count| count as u32);
        self.b = Builder::new(name, Vec::new(), invocations, self.groups);
        Ok(())
    }

    /// Makes a storage buffer of each that is wanted, and one of values that overlap. Where there
    /// are too many, weights in one page and form share one; where there are still too many, all
    /// values in one slab do, as words.
    fn bind(&mut self, wanted: &[Wanted]) -> Result<(), Refusal> {
        let most = self.limits.buffers_max as usize;
        let window = |wanted: &Wanted| (self.windows)(wanted.buffer);
        let place = |wanted: &Wanted| (window(wanted).pool, window(wanted).buffer);
        let fixed = |wanted: &Wanted| self.regions.buffer(wanted.buffer).is_fixed();
        let form = |wanted: &Wanted| self.forms[number(wanted.buffer)];
        let same = |pass: usize, a: &Wanted, b: &Wanted| match (pass, fixed(a), fixed(b)) {
            (1 | 2, true, true) => (form(a), place(a)) == (form(b), place(b)),
            (2, false, false) => place(a) == place(b),
            (_, false, false) => window(a).overlaps(&window(b)),
            (_, _, _) => false,
        };
        let mut groups: Vec<Vec<Wanted>> = Vec::new();
        for pass in 0..3 {
            groups = grouped(wanted, |a, b| same(pass, a, b));
            if groups.len() <= most {
                break;
            }
        }
        if groups.len() > most {
            let found = groups.len();
            let most = self.limits.buffers_max;
            return Err(Refusal::Buffers { found, most });
        }
        for members in groups {
            self.group(&members)?;
        }
        Ok(())
    }

    /// One storage buffer for all of these.
    fn group(&mut self, members: &[Wanted]) -> Result<(), Refusal> {
        let form = |member: &Wanted| self.forms[number(member.buffer)];
        let in_words = members.len() > 1 && !self.regions.buffer(members[0].buffer).is_fixed();
        let unit = match (
            members.iter().all(|member| member.in_quads),
            form(&members[0]),
        ) {
            (_, _) if in_words => 1,
            (true, _) => 4,
            (false, StoredAs::F32 | StoredAs::I32) => 1,
            (false, StoredAs::F16 | StoredAs::Bf16) => 2,
        };
        let element = match in_words {
            true => Type::one(Scalar::U32),
            false => address::element(form(&members[0]), unit, self.shader_f16),
        };
        let range = |member: &Wanted| match members.len() {
            1 => {
                let elements = self.regions.buffer(member.buffer).extents.elements();
                let ahead = head(self.regions, member.buffer);
                let bytes = form(member).bytes(ahead.saturating_add(elements));
                (0, bytes.unwrap_or(u64::MAX))
            }
            _ => {
                let window = (self.windows)(member.buffer);
                (window.offset, window.offset + window.bytes)
            }
        };
        let ranges = || members.iter().map(range);
        let first = ranges().map(|(first, _)| first).min().unwrap_or(0);
        let end = ranges().map(|(_, end)| end).max().unwrap_or(0);
        let (found, most) = (end - first, self.limits.binding_bytes_max);
        if members.len() > 1 && found > most {
            return Err(Refusal::Far { found, most });
        }
        let size = u64::from(element.bytes());
        let name = format!("b{}", self.b.buffers());
        let count = (end - first).div_ceil(size) as u32;
        let written = members.iter().any(|member| member.written);
        let id = self.b.buffer(&name, element, count, written);
        for member in members {
            self.arguments.list.push(Argument {
                buffer: member.buffer,
                id,
                stored: form(member),
                unit,
                in_words,
                native: self.shader_f16 && !in_words,
                base: ((range(member).0 - first) / size) as i32,
            });
        }
        self.groups_of_buffers
            .push(members.iter().map(|member| member.buffer).collect());
        Ok(())
    }
}

/// Those that belong together, directly or through others, in the order of the first of each.
fn grouped(wanted: &[Wanted], same: impl Fn(&Wanted, &Wanted) -> bool) -> Vec<Vec<Wanted>> {
    let mut groups: Vec<Vec<Wanted>> = Vec::new();
    for own in wanted {
        let joins = |group: &Vec<Wanted>| group.iter().any(|other| same(other, own));
        let Some(first) = groups.iter().position(joins) else {
            groups.push(vec![*own]);
            continue;
        };
        let later = groups.split_off(first + 1);
        let (joined, apart): (Vec<_>, Vec<_>) = later.into_iter().partition(joins);
        groups[first].extend(joined.into_iter().flatten());
        groups[first].push(*own);
        groups.extend(apart);
    }
    groups
}
