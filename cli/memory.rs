//! Whether this machine can hold a run.
//!
//! Takes the plan of a program, refuses it when it needs more memory than there is: better a
//! sentence now than a killed process later. Where the system does not tell, it refuses nothing.

use std::{fmt, fs};

use compiler::plan;
use compiler::program::Executable;
use compiler::target::Target;
use compiler::tile::{Choice, LowerOptions, Tiled, Tuning, lower};
use runtime::place::{Options, Place};

use crate::error::Failure;

/// What a program needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Of weights, as they are stored.
    pub(crate) weights: u64,
    /// That transformed weights, and those that several kernels pack, take beyond these.
    pub(crate) added: u64,
    /// Of states, which stay from run to run.
    pub(crate) states: u64,
    /// Of values at the peak.
    pub(crate) values: u64,
    /// Of the tiles that threads work on.
    pub(crate) tiles: u64,
}

impl Needs {
    /// What nothing needs.
    const NONE: Needs = Needs {
        weights: 0,
        added: 0,
        states: 0,
        values: 0,
        tiles: 0,
    };

    /// What a program needs with these tile programs.
    pub(crate) fn of(program: &Executable, tiled: &Tiled, threads: usize) -> Needs {
        let bytes = tiled.choices.iter().map(|choice| match choice {
            Choice::Blocks(program) => program.tile_bytes() as u64,
            Choice::Plain(_) => 0,
        });
        let states = plan::states(program.regions()).into_iter();
        Needs {
            weights: program.cost().weight_bytes,
            added: tiled.added_weight_bytes + tiled.repacked_weight_bytes,
            states: states.map(|state| state.bytes).sum(),
            values: program.plan().peak_bytes(),
            tiles: bytes.max().unwrap_or(0).saturating_mul(threads as u64),
        }
    }

    /// What two programs need that are loaded together.
    fn and(self, other: Needs) -> Needs {
        Needs {
            weights: self.weights.saturating_add(other.weights),
            added: self.added.saturating_add(other.added),
            states: self.states.saturating_add(other.states),
            values: self.values.saturating_add(other.values),
            tiles: self.tiles.saturating_add(other.tiles),
        }
    }

    /// All of it.
    pub(crate) fn total(self) -> u64 {
        [self.added, self.states, self.values, self.tiles]
            .into_iter()
            .fold(self.weights, u64::saturating_add)
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} MB of weights and {} MB for transformed ones, ",
            megabytes(self.weights),
            megabytes(self.added),
        )?;
        if self.states > 0 {
            write!(f, "{} MB of states, ", megabytes(self.states))?;
        }
        write!(
            f,
            "{} MB of values at the peak, {} MB of tiles",
            megabytes(self.values),
            megabytes(self.tiles),
        )
    }
}

/// The tile programs of a program on some processor, before it is known which: predictions and
/// memory hardly depend on it.
pub(crate) fn tiled(program: &Executable, threads: usize, exact: bool) -> Tiled {
    let target = Target::CPU.with_threads(threads);
    lower(
        program.regions(),
        &target,
        LowerOptions { exact },
        &Tuning::default(),
    )
}

/// Values of programs on devices.
const ON_DEVICE: Options = Options {
    threads: Some(1),
    exact: true,
};

/// What a program needs there.
pub(crate) fn needs(program: &Executable, at: &Place) -> Needs {
    let threads = threads(at);
    Needs::of(
        program,
        &tiled(program, threads, options(at).exact),
        threads,
    )
}

/// The threads of a place.
pub(crate) fn threads(at: &Place) -> usize {
    let threads = options(at).threads;
    threads.unwrap_or_else(|| runtime::devices::cpu().threads)
}

/// A device answers for its own memory; values lie as they do on a processor.
fn options(at: &Place) -> Options {
    at.processor().unwrap_or(ON_DEVICE)
}

/// Refuses programs that need more than this machine's memory when they are loaded together; gives
/// what they need.
pub(crate) fn check(place: &str, programs: &[&Executable], at: &Place) -> Result<Needs, Failure> {
    let needs = programs.iter().map(|program| needs(program, at));
    let needs = needs.fold(Needs::NONE, Needs::and);
    match bytes() {
        Some(found) if needs.total() > found => {
            let weights = needs.weights.saturating_add(needs.added);
            let weights = weights.saturating_add(needs.states);
            let values = needs.values.saturating_add(needs.tiles);
            let [values, weights, found] = [values, weights, found].map(gigabytes);
            let message = format!(
                "{place} needs {values} GB of memory for values and {weights} GB for weights, but \
                 this machine has {found} GB"
            );
            Err(Failure::job(message)
                .hint("choose a smaller picture (-W, -H) or fewer at once (-b)"))
        }
        Some(_) | None => Ok(needs),
    }
}

/// The memory that this process may use: the machine's, or less where a limit is set.
pub(crate) fn bytes() -> Option<u64> {
    let lines = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |path: &str, name: &str| {
        let text = lines(path);
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let machine = after("/proc/meminfo", "MemTotal:").map(|kilobytes: u64| kilobytes * 1024);
    let process = after("/proc/self/limits", "Max address space");
    let group = lines("/sys/fs/cgroup/memory.max").trim().parse().ok();
    [machine, process, group].into_iter().flatten().min()
}

/// Bytes as megabytes; with a digit behind the point where there are few.
pub(crate) fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    let digits = usize::from(megabytes < 10.0);
    format!("{megabytes:.digits$}")
}

/// Bytes as gigabytes.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e9)
}
