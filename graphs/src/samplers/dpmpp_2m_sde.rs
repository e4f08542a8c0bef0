//! DPM-Solver++ (2M SDE): the second order with fresh noise at each step (spec 4.4).

use super::multistep;
use super::options::{Preset, Sampler};

pub(super) const SAMPLER: Sampler = Sampler {
    name: "dpm++2m_sde",
    class: multistep::CLASS,
    options: multistep::OPTIONS,
    inert: multistep::INERT,
    defaults: &[],
    forced: &[
        ("algorithm_type", Preset::Word("sde-dpmsolver++")),
        ("solver_order", Preset::Count(2)),
    ],
    rows: multistep::rows,
};
