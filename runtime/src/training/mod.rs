//! Training: what is drawn, what is fed, the loop over updates, and checkpoints.
//!
//! Takes a training step as a program on a device, and what a method says about numbers; gives
//! reports of updates and checkpoints. It computes no formula of a method, prints nothing and opens
//! no path.

pub mod checkpoint;
pub mod data;
pub mod draws;
pub mod feed;
pub mod initial;
pub mod pictures;
pub mod run;
pub mod sessions;
