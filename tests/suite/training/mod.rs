//! Training steps against what PyTorch computes in f64 on the same weights and draws: every value
//! on the way, the loss, gradients, optimiser steps; and the identities that hold by themselves.

mod acceptance;
mod distill;
mod memory;
mod networks;
mod optimizer;
mod perflow;
mod updates;
