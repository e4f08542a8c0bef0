//! The order of samples: a pure function of the seed and the position.
//!
//! Takes the samples of each bucket and a batch's number, returns the samples of that batch. Each
//! bucket is a permutation that is drawn anew for each epoch, so that a resumed run sees what an
//! unbroken one would, and every sample is seen once before any is seen again.

use std::ops::Range;

use crate::training::draws::{Address, Draws, Purpose};

/// The order in which samples are seen.
#[derive(Debug)]
pub(super) struct Order {
    draws: Draws,
    batch: usize,
    buckets: Vec<Bucket>,
    /// Batches of each bucket in one cycle.
    shares: Vec<usize>,
    /// The bucket of each batch of a cycle, and the number of that cycle.
    cycle: Shuffled,
}

/// Samples whose pictures have one size.
#[derive(Debug)]
struct Bucket {
    samples: Vec<u32>,
    /// The places of `samples` in the order of one epoch.
    epoch: Shuffled,
}

/// A permutation that was drawn last, and for what.
#[derive(Debug, Default)]
struct Shuffled {
    number: Option<u32>,
    items: Vec<u32>,
}

impl Shuffled {
    /// The permutation of this number, drawn unless it was the last one.
    fn items(&mut self, number: u32, draw: impl FnOnce() -> Vec<u32>) -> &[u32] {
        if self.number != Some(number) {
            self.items = draw();
            self.number = Some(number);
        }
        &self.items
    }
}

impl Order {
    /// The order of `buckets`, of which none is empty and at least one is there, in batches of
    /// `batch` samples, at least 1.
    pub(super) fn new(seed: u64, batch: usize, buckets: Vec<Vec<u32>>) -> Order {
        let share = |samples: &Vec<u32>| ((samples.len() + batch / 2) / batch).max(1);
        let shares = buckets.iter().map(share).collect();
        let bucket = |samples| Bucket {
            samples,
            epoch: Shuffled::default(),
        };
        Order {
            draws: Draws::new(seed),
            batch,
            buckets: buckets.into_iter().map(bucket).collect(),
            shares,
            cycle: Shuffled::default(),
        }
    }

    /// The bucket of a batch, and its samples. In one cycle of batches each bucket has its share,
    /// at places that are drawn; within a bucket, position p holds sample `order(p / N)[p % N]`.
    pub(super) fn batch(&mut self, number: u64) -> (usize, Vec<u32>) {
        let (bucket, before) = self.bucket(number);
        let first = before * self.batch as u64;
        let places = first..first + self.batch as u64;
        (bucket, self.samples_at(bucket, places))
    }

    /// The bucket of a batch, and how many batches of that bucket there are before it.
    fn bucket(&mut self, number: u64) -> (usize, u64) {
        if let [_] = self.shares[..] {
            return (0, number);
        }
        let length: usize = self.shares.iter().sum();
        let (cycle, place) = (number / length as u64, (number % length as u64) as usize);
        let (draws, shares) = (self.draws, &self.shares);
        let items = self.cycle.items(cycle as u32, || {
            let repeated = |(bucket, share): (usize, &usize)| vec![bucket as u32; *share];
            let tickets = shares.iter().enumerate().flat_map(repeated).collect();
            let at = Address {
                step: cycle as u32,
                sample: 0,
            };
            shuffled(tickets, draws.uniforms(Purpose::Bucket, at))
        });
        let bucket = items[place];
        let before = items[..place].iter().filter(|own| **own == bucket).count();
        let share = self.shares[bucket as usize] as u64;
        (bucket as usize, cycle * share + before as u64)
    }

    /// The samples of a bucket at these positions of its endless order.
    fn samples_at(&mut self, number: usize, places: Range<u64>) -> Vec<u32> {
        let draws = self.draws;
        let Bucket { samples, epoch } = &mut self.buckets[number];
        let count = samples.len() as u64;
        let sample = |place: u64| {
            let at = Address {
                step: (place / count) as u32,
                sample: number as u32,
            };
            let items = epoch.items(at.step, || {
                let samples = samples.clone();
                shuffled(samples, draws.uniforms(Purpose::Order, at))
            });
            items[(place % count) as usize]
        };
        places.map(sample).collect()
    }

    /// The samples that may take the place of one that cannot be used at `at`, of the same bucket,
    /// without end.
    pub(super) fn replacements(&self, bucket: usize, at: Address) -> impl Iterator<Item = u32> {
        let samples = &self.buckets[bucket].samples;
        let uniforms = self.draws.uniforms(Purpose::Replacement, at);
        uniforms.map(|uniform| samples[place(uniform, samples.len())])
    }

    /// The samples of a bucket.
    pub(super) fn samples(&self, bucket: usize) -> &[u32] {
        &self.buckets[bucket].samples
    }
}

/// One of `count` places, all equally likely for a uniform number in 0..1.
pub(super) fn place(uniform: f64, count: usize) -> usize {
    // A product of numbers below 1 and count can round up to count.
    ((uniform * count as f64) as usize).min(count.saturating_sub(1))
}

/// The items in a random order (Fisher–Yates).
fn shuffled(mut items: Vec<u32>, uniforms: impl Iterator<Item = f64>) -> Vec<u32> {
    for (last, uniform) in (1..items.len()).rev().zip(uniforms) {
        items.swap(last, place(uniform, last + 1));
    }
    items
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn batches(order: &mut Order, numbers: Range<u64>) -> Vec<(usize, Vec<u32>)> {
        numbers.map(|number| order.batch(number)).collect()
    }

    #[test]
    fn every_sample_is_seen_once_an_epoch() {
        let mut order = Order::new(3, 4, vec![(0..10).collect()]);
        let seen = batches(&mut order, 0..10);
        let seen: Vec<u32> = seen.into_iter().flat_map(|(_, samples)| samples).collect();
        let epochs: Vec<&[u32]> = seen.chunks(10).collect();
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<u32>>(), "{epoch:?}");
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[0], (0..10).collect::<Vec<u32>>());
    }

    #[test]
    fn any_batch_can_be_the_first() {
        let buckets = || vec![(0..7).collect(), (7..30).collect(), vec![30]];
        let all = batches(&mut Order::new(5, 4, buckets()), 0..40);
        for first in [1, 17, 39] {
            let later = batches(&mut Order::new(5, 4, buckets()), first..40);
            assert_eq!(later, all[first as usize..], "from {first}");
        }
        assert_ne!(batches(&mut Order::new(6, 4, buckets()), 0..40), all);
    }

    #[test]
    fn batches_hold_one_bucket_in_its_share() {
        let buckets = [0..7, 7..30, 30..31];
        let lists = buckets.iter().map(|own| own.clone().collect()).collect();
        let mut order = Order::new(1, 4, lists);
        // One cycle: 2, 6 and 1 batches; over 4 cycles 8 batches of 4 are 32 places for 7 samples.
        let mut seen: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (bucket, samples) in batches(&mut order, 0..36) {
            let own = &buckets[bucket];
            assert!(samples.iter().all(|sample| own.contains(sample)));
            seen.entry(bucket).or_default().extend(samples);
        }
        let counts: Vec<usize> = seen.values().map(Vec::len).collect();
        assert_eq!(counts, [32, 96, 16]);
        for (bucket, samples) in seen {
            let count = buckets[bucket].len();
            for epoch in samples.chunks_exact(count) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, buckets[bucket].clone().collect::<Vec<u32>>());
            }
        }
    }
}
