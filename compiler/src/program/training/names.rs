//! Names of what a training step keeps and reports.

/// The flat parameters: f32 `[parameters]`, a weight of steps and a state of training steps.
pub const STUDENT: &str = "student";

/// The flat moving average of the parameters: f32 `[parameters]`, a weight of steps and a state of
/// training steps.
pub const EMA: &str = "ema";

/// What is minimised: f32 `[]`, a result.
pub const LOSS: &str = "loss";

/// The flat sum of gradients since the last update: f32 `[parameters]`, a state of steps that
/// accumulate; it begins with zeros.
pub const GRADIENT: &str = "gradient";

/// The norm of the gradient before it is clipped: f32 `[]`, a result.
pub const GRAD_NORM: &str = "grad_norm";

/// Whether parameters were updated, 1 or 0: f32 `[]`, a result. They are not where the gradient is
/// not finite, or not that of the last micro-batch.
pub const UPDATED: &str = "updated";

/// The first moment of the gradient: f32 `[parameters]`, a state that begins with zeros.
pub const FIRST_MOMENT: &str = "adamw.first_moment";

/// The second moment of the gradient: f32 `[parameters]`, a state that begins with zeros.
pub const SECOND_MOMENT: &str = "adamw.second_moment";

/// The factor of the loss, for networks that compute in f16: f32 `[]`, a state that begins with
/// [`LOSS_SCALE_START`].
pub const LOSS_SCALE: &str = "loss_scale";

/// What the factor of the loss begins with, as in `torch.amp.GradScaler`.
pub const LOSS_SCALE_START: f32 = 65536.0;

/// Updates since the factor of the loss changed: f32 `[]`, a state that begins with 0.
pub const LOSS_SCALE_UPDATES: &str = "loss_scale.updates";

/// What the names of inputs begin with that condition on no caption.
pub const UNCONDITIONAL: &str = "uncond.";

/// What the names of inputs begin with that condition the student alone.
pub const STUDENT_SEES: &str = "student.";

/// The clean latents: f32 `[batch, channels, height, width]`, an input.
pub const LATENTS: &str = "latents";

/// The noise: f32 `[batch, channels, height, width]`, an input.
pub const NOISE: &str = "noise";
