//! Whether this machine can hold a run.
//!
//! Takes the plan of a program, refuses it when it needs more memory than there is: better a
//! sentence now than a killed process later. Where the system does not tell, it refuses nothing.

use std::fs;

use compiler::program::Program;

use crate::error::Failure;

/// Refuses a program whose values and weights are more than this machine's memory.
pub(crate) fn check(place: &str, program: &Program) -> Result<(), Failure> {
    let (values, weights) = (program.plan().peak_bytes(), program.cost().weight_bytes);
    let wanted = values.saturating_add(weights);
    match bytes() {
        Some(found) if wanted > found => {
            let [values, weights, found] = [values, weights, found].map(gigabytes);
            let message = format!(
                "{place}: wanted {values} GB of memory for values and {weights} GB for weights, \
                 found {found} GB"
            );
            Err(Failure::job(message)
                .hint("choose a smaller picture (-W, -H) or fewer at once (-b)"))
        }
        Some(_) | None => Ok(()),
    }
}

/// The memory that this process may use: the machine's, or less where a limit is set.
fn bytes() -> Option<u64> {
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

fn gigabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e9)
}
