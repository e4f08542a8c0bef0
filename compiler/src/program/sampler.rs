//! A sampler as a table of numbers.
