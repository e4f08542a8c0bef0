//! The programs of a training: one for each size of pictures, with the same states.
//!
//! Takes a session per size, returns the one for a batch. States are where they were used last, and
//! are handed over, bit for bit, when the size changes.

use std::cell::Cell;

use compiler::program::training::names::LATENTS;
use compiler::value::tensor::Tensor;

use crate::session::{Session, SessionError};

/// Sessions of one training step for several sizes.
pub struct Sessions {
    sessions: Vec<Session>,
    /// The one whose states are those of the training.
    current: Cell<usize>,
}

impl Sessions {
    /// The sessions of a step; at least one.
    pub fn new(sessions: Vec<Session>) -> Sessions {
        assert!(!sessions.is_empty(), "a training has a program");
        Sessions {
            sessions,
            current: Cell::new(0),
        }
    }

    /// The session that has the states.
    pub fn current(&self) -> &Session {
        &self.sessions[self.current.get()]
    }

    /// The session for latents of this shape, with the states; the current one where none fits, so
    /// that its own check says what it expects.
    ///
    /// # Errors
    /// When a device fails.
    pub fn of(&self, latents: Option<&Tensor>) -> Result<&Session, SessionError> {
        let fits = |session: &Session| {
            let mut inputs = session.inputs().iter();
            let own = inputs.find(|(name, _)| name == LATENTS);
            let extents = own.and_then(|(_, ty)| ty.extents());
            latents.is_some_and(|latents| extents.is_some_and(|own| own == latents.shape()))
        };
        let wanted = self.sessions.iter().position(fits);
        let (from, to) = (self.current.get(), wanted.unwrap_or(self.current.get()));
        if from != to {
            for name in self.sessions[from].states() {
                if let Some(state) = self.sessions[from].state(name)? {
                    self.sessions[to].set_state(name, &state)?;
                }
            }
            self.current.set(to);
        }
        Ok(self.current())
    }
}
