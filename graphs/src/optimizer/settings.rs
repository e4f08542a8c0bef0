//! What is fixed for a whole training, and what changes from update to update.
//!
//! Takes settings and the scalars of an update, returns whether they have a meaning, and the scalar
//! inputs of a training step.

use std::collections::BTreeMap;

use compiler::value::tensor::Tensor;

use super::error::OptimizerError;
use super::states::{FIRST_RATE, GATHER, LAST, SECOND_KEEP, SECOND_RATE, scalar_tensor};

/// What is fixed for a whole training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Decay of the first and the second moment; 0.9 and 0.999 in PyTorch.
    pub betas: [f64; 2],
    /// What is added to the root of the second moment; 1e-8 in PyTorch.
    pub epsilon: f64,
    /// The norm to which a longer gradient is shortened.
    pub clip: Option<f64>,
    /// Whether there is a moving average.
    pub ema: bool,
    /// Steps whose gradients are averaged for one update, at least 1.
    pub accumulate: usize,
    /// How the loss is scaled for networks that compute in f16.
    pub loss_scale: Option<LossScale>,
}

/// What changes from update to update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalars {
    /// The number of this update, from 1; steps that were skipped do not count.
    pub update: u64,
    /// The learning rate.
    pub lr: f64,
    /// The share of itself that a parameter loses per unit of learning rate.
    pub weight_decay: f64,
    /// The share of the moving average that stays; 0.95 for SPLAM.
    pub ema_decay: f64,
    /// Whether this micro-batch is the last of its update.
    pub last: bool,
}

impl Scalars {
    /// The scalar inputs of a training step, each f32 `[]`: `adamw.keep`, `adamw.step_size`,
    /// `adamw.root_scale`, the rates of the moments, `ema.rate`, and of steps that accumulate
    /// `accumulate.last` and `accumulate.keep`. Bias corrections cancel in f32, so all is f64 before.
    ///
    /// # Source
    /// arXiv 1711.05101, algorithm 2, as `torch.optim.AdamW` spells it.
    pub fn numbers(&self, settings: &Settings) -> BTreeMap<String, Tensor> {
        // Beyond that many updates both corrections are 1 in f64.
        let update = i32::try_from(self.update).unwrap_or(i32::MAX);
        let [beta1, beta2] = settings.betas;
        let [first, second] = settings.betas.map(|beta| 1.0 - beta.powi(update));
        // A micro-batch that is not the last changes nothing: rates of 0 leave every state as it
        // is, bit for bit.
        let (share, rest) = if self.last { (1.0, 0.0) } else { (0.0, 1.0) };
        [
            ("adamw.keep", 1.0 - share * self.lr * self.weight_decay),
            ("adamw.step_size", share * self.lr / first),
            ("adamw.root_scale", 1.0 / second.sqrt()),
            (FIRST_RATE, share * (1.0 - beta1)),
            (SECOND_KEEP, share * beta2 + rest),
            (SECOND_RATE, share * (1.0 - beta2)),
            ("ema.rate", share * (1.0 - self.ema_decay)),
            (LAST, share),
            (GATHER, rest),
        ]
        .into_iter()
        .filter(|(name, _)| settings.ema || *name != "ema.rate")
        .filter(|(name, _)| settings.accumulate > 1 || ![LAST, GATHER].contains(name))
        .map(|(name, number)| (name.to_owned(), scalar_tensor(number)))
        .collect()
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), OptimizerError> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let [beta1, beta2] = self.betas;
        let rules = [
            ("beta1", beta1, share(beta1), "at least 0 and below 1"),
            ("beta2", beta2, share(beta2), "at least 0 and below 1"),
            ("epsilon", self.epsilon, positive(self.epsilon), "above 0"),
            (
                "the clipping norm",
                self.clip.unwrap_or(1.0),
                self.clip.is_none_or(positive),
                "above 0",
            ),
            (
                "the number of accumulated steps",
                self.accumulate as f64,
                self.accumulate > 0,
                "at least 1",
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            None => Ok(()),
            Some((name, found, _, wanted)) => Err(OptimizerError::Setting {
                name,
                found,
                wanted,
            }),
        }
    }
}

/// How the scale changes: it halves after a gradient that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossScale {
    /// Updates in a row after which it doubles; 2000 in PyTorch.
    pub growth_interval: u32,
}
