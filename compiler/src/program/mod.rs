//! Plain data that the rooms on either side of the compiler agree on.
//!
//! `graphs` makes it, `runtime` obeys it, `cli` hands it over; nothing here computes.

pub mod sampler;
