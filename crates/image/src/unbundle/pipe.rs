//! A bounded queue between two stages that tells an end from an accident: a stage that dies drops
//! its outlet without finishing it, and the next stage stops too.

use tokio::sync::mpsc;

use super::UnbundleError;

/// Why a stage stopped early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The stage before or after it is gone; that one knows why.
    Neighbour,
    /// It found something wrong.
    Fault(UnbundleError),
}

impl Stop {
    pub(super) fn fault(self) -> Option<UnbundleError> {
        match self {
            Self::Neighbour => None,
            Self::Fault(fault) => Some(fault),
        }
    }
}

impl<E: Into<UnbundleError>> From<E> for Stop {
    fn from(fault: E) -> Self {
        Self::Fault(fault.into())
    }
}

/// The writing end.
pub(super) struct Outlet<T>(mpsc::Sender<Option<T>>);

/// Room for one item.
pub(super) struct Room<'a, T>(mpsc::Permit<'a, Option<T>>);

impl<T> Room<'_, T> {
    /// Fills it.
    pub(super) fn send(self, item: T) {
        self.0.send(Some(item));
    }
}

/// The reading end.
pub(super) struct Inlet<T>(mpsc::Receiver<Option<T>>);

/// A queue of at most `length` items.
pub(super) fn pipe<T>(length: usize) -> (Outlet<T>, Inlet<T>) {
    let (sender, receiver) = mpsc::channel(length);
    (Outlet(sender), Inlet(receiver))
}

impl<T> Outlet<T> {
    /// Sends from a stage's thread; waits for room.
    pub(super) fn send(&self, item: T) -> Result<(), Stop> {
        self.0
            .blocking_send(Some(item))
            .map_err(|_| Stop::Neighbour)
    }

    /// Says that all has been sent, from a stage's thread.
    pub(super) fn finish(self) -> Result<(), Stop> {
        self.0.blocking_send(None).map_err(|_| Stop::Neighbour)
    }

    /// Waits, in a task, for room for one item.
    pub(super) async fn room(&self) -> Result<Room<'_, T>, Stop> {
        self.0
            .reserve()
            .await
            .map(Room)
            .map_err(|_| Stop::Neighbour)
    }

    /// Says that all has been sent, from a task.
    pub(super) async fn finish_async(self) -> Result<(), Stop> {
        self.0.send(None).await.map_err(|_| Stop::Neighbour)
    }
}

impl<T> Inlet<T> {
    /// The next item; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<T>, Stop> {
        self.0.blocking_recv().ok_or(Stop::Neighbour)
    }
}
