//! How many bodies flow at once, and how broadly. A body that flows holds pieces of itself in memory;
//! the first ones get large pieces, which is fast, those that come when many flow get small ones, and
//! beyond that a request is told to come again. So memory has a bound, and a crowd of slow clients
//! takes speed from each other, not the service from the others.

use s3::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use std::sync::Arc;

/// Bodies that flow in one direction.
#[derive(Debug, Clone)]
pub struct Lanes {
    wide: Arc<Semaphore>,
    narrow: Arc<Semaphore>,
    wide_bytes: usize,
}

/// A body's right to flow.
#[derive(Debug)]
pub struct Lane {
    /// What may be gathered or read at once.
    pub piece_bytes: usize,
    _permit: OwnedSemaphorePermit,
}

/// Pieces in a narrow lane: one block of a file, the least that is read and checked.
const NARROW_BYTES: usize = 64 << 10;

impl Lanes {
    /// So many in pieces of that size, and so many more in small ones.
    pub fn new(wide: usize, wide_bytes: usize, narrow: usize) -> Self {
        Self {
            wide: Arc::new(Semaphore::new(wide)),
            narrow: Arc::new(Semaphore::new(narrow)),
            wide_bytes,
        }
    }

    /// Lets a body flow, or says that too many do.
    pub fn enter(&self) -> s3::Result<Lane> {
        let enter = |lanes: &Arc<Semaphore>, piece_bytes| {
            let permit = lanes.clone().try_acquire_owned().ok()?;
            Some(Lane {
                piece_bytes,
                _permit: permit,
            })
        };
        let lane = enter(&self.wide, self.wide_bytes).or_else(|| enter(&self.narrow, NARROW_BYTES));
        lane.ok_or_else(|| Code::SlowDown.into())
    }
}

impl Lane {
    /// Whether the next piece is read while this one is sent.
    pub fn reads_ahead(&self) -> bool {
        self.piece_bytes > NARROW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_flow_broadly_then_narrowly_then_not_at_all() {
        let lanes = Lanes::new(1, 1 << 20, 1);
        let first = lanes.enter().unwrap();
        let second = lanes.enter().unwrap();
        assert_eq!(
            (first.piece_bytes, second.piece_bytes),
            (1 << 20, NARROW_BYTES)
        );
        assert!(first.reads_ahead() && !second.reads_ahead());
        assert_eq!(lanes.enter().unwrap_err().code, Code::SlowDown);
        drop(first);
        assert_eq!(lanes.enter().unwrap().piece_bytes, 1 << 20);
    }
}
