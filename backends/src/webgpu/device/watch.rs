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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(watch: &Watch, error: wgpu::Error) {
        watch.state().error = Some(error);
    }

    fn check(watch: &Watch) -> Result<(), String> {
        let checked = watch.check("the adapter", || "slab 3 of 1024 bytes".to_owned());
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn reports_become_sentences_and_are_told_once_but_a_loss_always() {
        let watch = Watch::default();
        assert_eq!(check(&watch), Ok(()));
        report(
            &watch,
            wgpu::Error::OutOfMemory {
                source: "a driver's words".into(),
            },
        );
        let full = "the adapter has no memory left for slab 3 of 1024 bytes";
        assert_eq!(check(&watch), Err(full.to_owned()));
        assert_eq!(check(&watch), Ok(()));
        report(
            &watch,
            wgpu::Error::Validation {
                source: "a driver's words".into(),
                description: "In Device::create_buffer\n  too large\n".to_owned(),
            },
        );
        let refused =
            "the adapter refuses slab 3 of 1024 bytes: In Device::create_buffer too large";
        assert_eq!(check(&watch), Err(refused.to_owned()));
        watch.lose("");
        watch.lose("a later reason");
        for _ in 0..2 {
            let lost = "the adapter was lost: its driver gives no reason";
            assert_eq!(check(&watch), Err(lost.to_owned()));
        }
    }
}
