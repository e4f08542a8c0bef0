//! The room `graphs`.
