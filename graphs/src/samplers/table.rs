//! The table of a sampler for a number of steps, checked.

use compiler::program::sampler::SamplerTable;

use super::config::SamplerConfig;
use super::error::SamplerError;
use super::row::is_finite;
use super::schedule::{expect_steps, train_timesteps};

/// The table of a sampler for a number of steps. PNDM calls the network more often than it is asked
/// to, PeRFlow at least once in each time window: the table's length is what counts. A list of
/// timesteps or noise levels in the configuration overrides `steps`.
///
/// # Errors
/// When the class is not supported, an option has a wrong value or one that this sampler refuses,
/// the number of steps is zero or beyond what the schedule holds, or a coefficient is not finite.
pub fn table(config: &SamplerConfig, steps: usize) -> Result<SamplerTable, SamplerError> {
    let options = config.options()?;
    let steps = config.listed_steps().unwrap_or(steps);
    let train = train_timesteps(&options)?;
    expect_steps(&options, steps, 1, train)?;
    let table = (options.sampler.rows)(&options, steps)?;
    for (step, numbers) in table.steps.iter().enumerate() {
        let mut rows = numbers.stores.iter().map(|store| &store.row);
        let finite = rows.all(is_finite)
            && is_finite(&numbers.estimate)
            && is_finite(&numbers.next)
            && numbers.input_scale.is_finite()
            && numbers.timestep.is_finite();
        if !finite {
            let (sampler, timestep) = (options.sampler.name, numbers.timestep);
            return Err(SamplerError::NotFinite {
                sampler,
                step,
                timestep,
            });
        }
    }
    Ok(table)
}
