//! DPM-Solver++ (2M): second order, multistep, on the clean estimate (arXiv 2211.01095; spec 4.4).

use super::multistep;
use super::options::{Preset, Sampler};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "dpm++2m",
    class: multistep::CLASS,
    options: multistep::OPTIONS,
    inert: multistep::INERT,
    defaults: &[],
    forced: &[
        ("algorithm_type", Preset::Word("dpmsolver++")),
        ("solver_order", Preset::Count(2)),
    ],
    rows: multistep::rows,
};
