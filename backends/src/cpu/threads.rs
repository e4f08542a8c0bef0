//! Threads: a pool of them, and independent tasks spread over it.
//!
//! Takes tasks that write to disjoint parts of a result, so that their order cannot be seen. A
//! browser's page has one thread and runs them one after the other.

use super::error::ExecuteError;

/// The threads that an executor runs on.
#[derive(Debug)]
pub(crate) struct Threads {
    #[cfg(not(target_arch = "wasm32"))]
    pool: rayon::ThreadPool,
}

/// Cuts `out` into parts of `size` elements, the last perhaps shorter, with their numbers.
pub(crate) fn chunks(out: &mut [f32], size: usize) -> Vec<(usize, &mut [f32])> {
    out.chunks_mut(size.max(1)).enumerate().collect()
}

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use rayon::prelude::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

    use super::{ExecuteError, Threads};

    impl Threads {
        /// A pool of `wanted` threads, or one per core.
        pub(crate) fn new(wanted: Option<usize>) -> Result<Threads, ExecuteError> {
            let wanted = wanted.unwrap_or(0);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(wanted).build();
            let pool = pool.map_err(|error| ExecuteError::Threads {
                wanted,
                reason: error.to_string(),
            })?;
            Ok(Threads { pool })
        }

        /// Runs `work` on this pool; tasks that it spreads stay there.
        pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
            self.pool.install(work)
        }
    }

    /// Threads of the pool that this is called on.
    pub(crate) fn current() -> usize {
        rayon::current_num_threads()
    }

    /// Calls `work` with each task, in any order, on the pool that this is called on.
    pub(crate) fn each<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync) {
        tasks.into_par_iter().for_each(&work);
    }

    /// Calls `work` with every number below `count`, each on a thread of its own as far as there
    /// are any; gives the results in order.
    pub(crate) fn on_each<R: Send>(count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
        if count == 1 {
            return vec![work(0)];
        }
        let numbers = (0..count).into_par_iter().with_max_len(1);
        numbers.map(&work).collect()
    }

    /// Threads that can run at the same time.
    pub(crate) fn available() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// How a matrix product spreads over the pool that this is called on.
    pub(crate) fn spread() -> gemm::Parallelism {
        gemm::Parallelism::Rayon(current())
    }
}
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{available, current, each, on_each, spread};

#[cfg(target_arch = "wasm32")]
mod single {
    use super::{ExecuteError, Threads};

    impl Threads {
        /// No threads but the caller's.
        pub(crate) fn new(_wanted: Option<usize>) -> Result<Threads, ExecuteError> {
            Ok(Threads {})
        }

        /// Runs `work`.
        pub(crate) fn install<R>(&self, work: impl FnOnce() -> R) -> R {
            work()
        }
    }

    /// The one thread.
    pub(crate) fn current() -> usize {
        1
    }

    /// Calls `work` with each task in order.
    pub(crate) fn each<T>(tasks: Vec<T>, work: impl Fn(T)) {
        tasks.into_iter().for_each(&work);
    }

    /// Calls `work` with every number below `count`; gives the results in order.
    pub(crate) fn on_each<R>(count: usize, work: impl Fn(usize) -> R) -> Vec<R> {
        (0..count).map(work).collect()
    }

    /// The one thread.
    pub(crate) fn available() -> usize {
        1
    }

    /// Not at all.
    pub(crate) fn spread() -> gemm::Parallelism {
        gemm::Parallelism::None
    }
}
#[cfg(target_arch = "wasm32")]
pub(crate) use single::{available, current, each, on_each, spread};
