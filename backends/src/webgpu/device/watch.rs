//! What a driver reports beside the answers to calls: errors, and the loss of the device.
//!
//! Takes reports when they come, gives them to who asks next, as one sentence. Nothing panics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DeviceError;

/// The reports of one device.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first error that nobody has asked for.
    error: Option<wgpu::Error>,
    lost: Option<String>,
}

impl Watch {
    /// Listens to a device.
    pub(super) fn over(device: &wgpu::Device) -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        let heard = Arc::clone(&watch);
        device.on_uncaptured_error(Arc::new(move |error| {
            let mut state = heard.state();
            state.error = state.error.take().or(Some(error));
        }));
        let heard = Arc::clone(&watch);
        device.set_device_lost_callback(move |_, reason| heard.lose(&reason));
        watch
    }

    /// Notes that the device is gone.
    pub(super) fn lose(&self, reason: &str) {
        // Drivers write lines; a message is one.
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        self.state().lost.get_or_insert(match reason.is_empty() {
            true => "its driver gives no reason".to_owned(),
            false => reason,
        });
    }

    /// What was reported since the last time, as a failure of `what`.
    ///
    /// # Errors
    /// The first error, or that the device is lost.
    pub(super) fn check(
        &self,
        adapter: &str,
        what: impl FnOnce() -> String,
    ) -> Result<(), DeviceError> {
        let mut state = self.state();
        let adapter = adapter.to_owned();
        match (state.error.take(), &state.lost) {
            (Some(wgpu::Error::OutOfMemory { .. }), _) => Err(DeviceError::Memory {
                adapter,
                what: what(),
            }),
            (_, Some(reason)) => Err(DeviceError::Lost {
                adapter,
                reason: reason.clone(),
            }),
            (Some(error), None) => Err(DeviceError::Refused {
                adapter,
                what: what(),
                reason: error
                    .to_string()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" "),
            }),
            (None, None) => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
