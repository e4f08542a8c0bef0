//! Profiles: how long each launch takes.
//!
//! Takes a loaded program, gives seconds by the adapter's clock or by the caller's. It has no clock
//! of its own.

use std::ops::Range;

use crate::clock::{Clock, RegionTime};

use super::{DeviceError, Loaded};

impl Loaded {
    /// Runs all launches and tells how long each took: by the adapter's clock where the device was
    /// opened for it, else one by one by `clock`, with what it costs to start and to wait. What the
    /// host computes between them stays as it was.
    ///
    /// # Errors
    /// When the device failed.
    pub(super) fn times(&self, clock: Clock) -> Result<Vec<RegionTime>, DeviceError> {
        let inner = &self.device().inner;
        inner.wait(None, || self.running())?;
        let mut times = Vec::with_capacity(self.commands().launches.len());
        for batch in self.batches(0..self.commands().launches.len()) {
            let seconds = match inner.timestamps {
                true => self.timed_by_device(batch.clone())?,
                false => self.timed_by_host(batch.clone(), clock)?,
            };
            let pairs = batch.zip(seconds);
            times.extend(pairs.map(|(launch, seconds)| RegionTime {
                region: self.commands().launches[launch].region,
                seconds,
            }));
        }
        Ok(times)
    }

    fn timed_by_host(&self, launches: Range<usize>, clock: Clock) -> Result<Vec<f64>, DeviceError> {
        let mut seconds = Vec::with_capacity(launches.len());
        for launch in launches {
            let start = clock();
            self.submit(launch..launch + 1);
            self.device().inner.wait(None, || self.running())?;
            seconds.push(clock() - start);
        }
        Ok(seconds)
    }

    fn timed_by_device(&self, launches: Range<usize>) -> Result<Vec<f64>, DeviceError> {
        let inner = &self.device().inner;
        let queries = 2 * launches.len() as u32;
        let bytes = u64::from(queries) * u64::from(wgpu::QUERY_SIZE);
        let set = inner.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: queries,
        });
        let ticks = inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("times"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let mut encoder = inner.device.create_command_encoder(&Default::default());
        for (launch, query) in launches.zip((0..).step_by(2)) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &set,
                    beginning_of_pass_write_index: Some(query),
                    end_of_pass_write_index: Some(query + 1),
                }),
            });
            self.dispatch(&mut pass, launch);
        }
        encoder.resolve_query_set(&set, 0..queries, &ticks, 0);
        inner.queue.submit([encoder.finish()]);
        inner.check(|| self.running())?;
        let nanoseconds = f64::from(inner.queue.get_timestamp_period());
        let ticks = inner.download(&ticks, 0, bytes)?;
        let (ticks, _) = ticks.as_chunks::<8>();
        let ticks: Vec<u64> = ticks.iter().map(|tick| u64::from_le_bytes(*tick)).collect();
        let (pairs, _) = ticks.as_chunks::<2>();
        let seconds =
            |[begin, end]: &[u64; 2]| end.saturating_sub(*begin) as f64 * nanoseconds * 1e-9;
        Ok(pairs.iter().map(seconds).collect())
    }
}
