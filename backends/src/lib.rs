//! The room `backends`.
