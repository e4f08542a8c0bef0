//! PeRFlow: straight lines inside time windows (arXiv 2405.07510; spec 3.4 and 3.6).
//!
//! Time runs from 1 (noise) to 0; the network is told 1000 times the time, one more than the index
//! of ᾱ. Each step moves along the line from the state to the end of its window, which the output
//! predicts.

use compiler::program::sampler::{Limit, Row, SamplerStep, SamplerTable};

use super::error::{SamplerError, Wanted};
use super::options::{Options, Sampler};
use super::row::{OUTPUT, X, sum};
use super::schedule::{alpha_bar, schedule, train_timesteps};
use super::spacing::linspace;

pub(super) const SAMPLER: Sampler = Sampler {
    name: "perflow",
    class: "PeRFlowScheduler",
    options: &["num_time_windows", "t_clean", "t_noise"],
    inert: &["set_alpha_to_one"],
    defaults: &[],
    forced: &[],
    rows,
};

/// What the network's output means.
#[derive(Clone, Copy)]
enum Output {
    /// ε of one DDIM jump over the window.
    DdimEpsilon,
    /// ε of the forward kernel over the window.
    DiffusionEpsilon,
    /// The line's direction itself.
    Velocity,
}

/// A network that a file calls an ε network is one of DDIM jumps, PeRFlow's own default.
const OUTPUTS: &[(&str, Output)] = &[
    ("ddim_eps", Output::DdimEpsilon),
    ("diff_eps", Output::DiffusionEpsilon),
    ("velocity", Output::Velocity),
    ("epsilon", Output::DdimEpsilon),
];

fn rows(options: &Options, steps: usize) -> Result<SamplerTable, SamplerError> {
    let schedule = schedule(options)?;
    let train = train_timesteps(options)?;
    let output = options.choice("prediction_type", "ddim_eps", OUTPUTS)?;
    let windows = options.count("num_time_windows", 4)?;
    if windows == 0 || windows > train {
        return Err(options.wrong("num_time_windows", Wanted::Order { max: train }));
    }
    // The published sampler has both numbers and uses the clean end only; neither is ever changed.
    for (option, wanted) in [("t_noise", 1.0), ("t_clean", 0.0)] {
        if options.number(option, wanted)? != wanted {
            return Err(options.wrong(option, Wanted::Number { number: wanted }));
        }
    }
    let points = timesteps(windows, steps.max(windows), train);
    let mut table = Vec::with_capacity(points.len());
    for (step, &timestep) in points.iter().enumerate() {
        let time = timestep / train as f64;
        let (start, end) = window(windows, train, time);
        let index = |time: f64| ((time * train as f64).trunc() - 1.0).max(0.0);
        let from = alpha_bar(options, &schedule, step, index(start))?;
        let to = alpha_bar(options, &schedule, step, index(end))?;
        let estimate = window_end(output, (from, to), (start, end), time);
        let next = points.get(step + 1).copied().unwrap_or(0.0) / train as f64;
        let travelled = (next - time) / (end - time);
        table.push(SamplerStep {
            timestep,
            input_scale: 1.0,
            draw: None,
            estimate,
            limit: Limit::None,
            next: sum(&[(1.0 - travelled, X), (travelled, estimate)]),
            stores: Vec::new(),
        });
    }
    Ok(SamplerTable {
        init_noise_sigma: 1.0,
        draws: 0,
        history_slots: 0,
        steps: table,
    })
}

/// The state at the window's end, from the state at `time` and the output (spec 3.4).
fn window_end(output: Output, (from, to): (f64, f64), (start, end): (f64, f64), time: f64) -> Row {
    let growth = (to / from).sqrt();
    let noise = match output {
        Output::Velocity => return sum(&[(1.0, X), (end - time, OUTPUT)]),
        Output::DdimEpsilon => (1.0 - to).sqrt() - (to / from * (1.0 - from)).sqrt(),
        Output::DiffusionEpsilon => -(1.0 - from / to).sqrt() * growth,
    };
    let divisor = growth * (time - start) + (end - time);
    let state = growth * (end - start) / divisor;
    sum(&[(state, X), (noise * (end - time) / divisor, OUTPUT)])
}

/// The window whose half-open range (end, start] holds `time`, with a tenth of a timestep of slack.
fn window(windows: usize, train: usize, time: f64) -> (f64, f64) {
    let bound = |i: usize| i as f64 / windows as f64;
    let lowest = time - 0.1 / train as f64;
    let end = (0..windows).rev().find(|i| lowest > bound(*i)).unwrap_or(0);
    (bound(end + 1), bound(end))
}

/// Timesteps laid out window by window, the first windows taking what does not divide evenly,
/// truncated to whole ones (spec 3.6).
fn timesteps(windows: usize, steps: usize, train: usize) -> Vec<f64> {
    let bound = |i: usize| i as f64 / windows as f64;
    (0..windows)
        .flat_map(|number| {
            let count = steps / windows + usize::from(number < steps % windows);
            linspace(
                bound(windows - number),
                bound(windows - number - 1),
                count,
                false,
            )
        })
        .map(|time| (time * train as f64).trunc())
        .collect()
}
