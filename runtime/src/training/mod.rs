//! Training: what is drawn, what is read, the loop over updates, and checkpoints.

pub mod data;
pub mod draws;
