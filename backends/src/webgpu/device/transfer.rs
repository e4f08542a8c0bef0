//! Transfers: tensors to buffers of a device, and bytes back.
//!
//! Takes tensors and windows that rules have checked; the driver never holds more than some MiB
//! that it has not taken yet.

use std::sync::mpsc;
use std::time::Duration;

use compiler::value::tensor::Tensor;

use super::{DeviceError, Inner};
use crate::gpu::commands::Argument;
use crate::gpu::elements::{ElementsError, Layout, encode};

/// Bytes of weights that wait in the driver's buffers at a time.
const STAGED_BYTES: u64 = 64 << 20;

impl Inner {
    /// Writes a tensor to its window; `staged` counts what the driver holds.
    pub(super) fn put(
        &self,
        tensor: &Tensor,
        layout: Layout,
        buffer: &wgpu::Buffer,
        window: &Argument,
        staged: &mut u64,
        what: impl Fn() -> String,
    ) -> Result<(), DeviceError> {
        let written = encode(tensor, layout, |offset, bytes| {
            self.queue
                .write_buffer(buffer, window.offset + offset, bytes);
            *staged += bytes.len() as u64;
            if *staged > STAGED_BYTES {
                *staged = 0;
                self.queue.submit([]);
                self.wait(None, &what).map_err(Put::Device)?;
            }
            Ok(())
        });
        written.map_err(|error| match error {
            Put::Device(error) => error,
            Put::Elements(error) => DeviceError::Elements {
                what: what(),
                error,
            },
        })
    }

    /// Reads a window back.
    pub(super) fn download(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>, DeviceError> {
        let what = || format!("reading {bytes} bytes back");
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        self.check(what)?;
        let (give, mapped) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody listens any more only after another failure.
            drop(give.send(result));
        });
        self.wait(None, what)?;
        // Another thread that waits on the device may be about to call back.
        let reason = match mapped.recv_timeout(ANSWER) {
            Ok(Ok(())) => match staging.get_mapped_range(..) {
                Ok(view) => return Ok(view.to_vec()),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(DeviceError::Refused {
            adapter: self.adapter.name.clone(),
            what: what(),
            reason,
        })
    }
}

/// How long the answer of a driver may take that has done all its work: none comes from one that is
/// lost.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a tensor is not written.
enum Put {
    Device(DeviceError),
    Elements(ElementsError),
}

impl From<ElementsError> for Put {
    fn from(error: ElementsError) -> Put {
        Put::Elements(error)
    }
}
