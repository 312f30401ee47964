//! What is done to a body piece by piece, in order. A step has a thread while there are pieces, and goes
//! from one to the next without being woken; while it waits for its sender it has none, so that
//! thousands of slow senders hold no threads.

use std::{
    collections::VecDeque,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{self, JoinHandle},
};

use crate::engine::{Failure, Result};

/// Bytes, and the room that they take until the last step is done with them.
#[derive(Debug)]
pub(super) struct Piece {
    data: Vec<Bytes>,
    _room: OwnedSemaphorePermit,
}

/// Room for the pieces of one body: who sends faster than the slowest step works waits here.
#[derive(Debug)]
pub(super) struct Room {
    left: Arc<Semaphore>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: Arc::new(Semaphore::new(bytes)),
            bytes,
        }
    }

    /// Waits until there is room. A piece that is larger than all of it takes all of it.
    pub(super) async fn piece(&self, data: Vec<Bytes>) -> Arc<Piece> {
        let wanted: usize = data.iter().map(Bytes::len).sum();
        let wanted = u32::try_from(wanted.min(self.bytes)).unwrap_or(u32::MAX);
        let room = self.left.clone().acquire_many_owned(wanted).await;
        Arc::new(Piece {
            data,
            _room: room.expect("the semaphore is never closed"),
        })
    }
}

/// One step, and what it works with.
#[derive(Debug)]
pub(super) struct Step<T> {
    line: Arc<Mutex<Line<T>>>,
    work: Work<T>,
    thread: Option<JoinHandle<()>>,
}

type Work<T> = fn(&mut T, &[Bytes]) -> Result<()>;

#[derive(Debug)]
struct Line<T> {
    pieces: VecDeque<Arc<Piece>>,
    worker: Worker<T>,
}

#[derive(Debug)]
enum Worker<T> {
    Waiting(T),
    /// On its thread, or given up after a failure that was told.
    Away,
    Failed(Failure),
}

impl<T: Send + 'static> Step<T> {
    pub(super) fn new(worker: T, work: Work<T>) -> Self {
        let line = Line {
            pieces: VecDeque::new(),
            worker: Worker::Waiting(worker),
        };
        Self {
            line: Arc::new(Mutex::new(line)),
            work,
            thread: None,
        }
    }

    /// One more piece. An error is one of an earlier piece.
    pub(super) fn push(&mut self, piece: Arc<Piece>) -> Result<()> {
        let mut line = lock(&self.line);
        line.pieces.push_back(piece);
        match mem::replace(&mut line.worker, Worker::Away) {
            Worker::Away => Ok(()),
            Worker::Failed(failure) => Err(failure),
            Worker::Waiting(worker) => {
                let (line, work) = (self.line.clone(), self.work);
                self.thread = Some(task::spawn_blocking(move || run(&line, worker, work)));
                Ok(())
            }
        }
    }

    /// What it worked with, when it is through with all pieces.
    pub(super) async fn finish(self) -> Result<T> {
        if let Some(thread) = self.thread {
            thread
                .await
                .map_err(|error| Failure::Stopped(error.to_string()))?;
        }
        match mem::replace(&mut lock(&self.line).worker, Worker::Away) {
            Worker::Waiting(worker) => Ok(worker),
            Worker::Failed(failure) => Err(failure),
            Worker::Away => Err(Failure::Stopped(
                "a step of an upload was given up".to_owned(),
            )),
        }
    }
}

fn lock<T>(line: &Mutex<Line<T>>) -> MutexGuard<'_, Line<T>> {
    // No change of a line can panic half-way.
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run<T>(line: &Mutex<Line<T>>, mut worker: T, work: Work<T>) {
    loop {
        let piece = {
            let mut line = lock(line);
            let Some(piece) = line.pieces.pop_front() else {
                line.worker = Worker::Waiting(worker);
                return;
            };
            piece
        };
        // A panic is told as a failure is: else its sender would wait for room for ever.
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut worker, &piece.data)));
        let died = |_| Err(Failure::Stopped("a step of an upload died".to_owned()));
        if let Err(failure) = done.unwrap_or_else(died) {
            let mut line = lock(line);
            line.pieces.clear();
            line.worker = Worker::Failed(failure);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(all: &mut Vec<u8>, data: &[Bytes]) -> Result<()> {
        data.iter().for_each(|bytes| all.extend_from_slice(bytes));
        match all.last() {
            Some(b'!') => Err(Failure::Record("it ends here".to_owned())),
            Some(b'?') => panic!("a bug"),
            _ => Ok(()),
        }
    }

    async fn pushed(words: &[&'static str]) -> Result<Vec<u8>> {
        let (room, mut step) = (Room::new(4), Step::new(Vec::new(), appended));
        for word in words {
            let data = vec![Bytes::from_static(word.as_bytes())];
            step.push(room.piece(data).await)?;
        }
        step.finish().await
    }

    #[tokio::test]
    async fn pieces_are_worked_on_in_order_in_little_room() {
        let words = ["one", "two", "three", "a piece larger than the room", ""].repeat(100);
        assert_eq!(pushed(&words).await.unwrap(), words.concat().into_bytes());
        assert_eq!(pushed(&[]).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_failure_and_a_panic_are_told_and_nobody_waits_for_room() {
        for words in [["a!"; 50].as_slice(), &["a!"]] {
            let failure = pushed(words).await.unwrap_err();
            assert!(matches!(failure, Failure::Record(_)), "{failure:?}");
        }
        for words in [["a?"; 50].as_slice(), &["a?"]] {
            let failure = pushed(words).await.unwrap_err();
            assert!(matches!(failure, Failure::Stopped(_)), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn room_is_taken_until_the_last_step_is_done() {
        let room = Room::new(4);
        let piece = room.piece(vec![Bytes::from_static(b"abc")]).await;
        let mut first = Step::new(Vec::new(), appended);
        first.push(piece.clone()).unwrap();
        first.finish().await.unwrap();
        assert_eq!(room.left.available_permits(), 1);
        drop(piece);
        assert_eq!(room.left.available_permits(), 4);
    }
}
