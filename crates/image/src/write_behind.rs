//! Has what is written to a large file reach the disk while more of it is being made, so that the sync
//! at the end has little left to do. The kernel by itself begins after half a minute or gigabytes.

use std::{
    fs::File,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Bytes between two syncs: a tenth of a second of a hard disk, and few enough syncs for any.
const STEP_BYTES: u64 = 16 << 20;

/// Writers count, a thread of its own syncs.
#[derive(Debug, Default)]
pub struct WriteBehind {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: u64,
    syncs: Option<Syncs>,
}

#[derive(Debug)]
struct Syncs {
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl WriteBehind {
    /// Hears of bytes that were written to the file, which is the same each time.
    pub fn wrote(&self, file: &File, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        state.since += bytes;
        if state.since < STEP_BYTES {
            return Ok(());
        }
        state.since = 0;
        let syncs = match state.syncs.take() {
            Some(syncs) => syncs,
            None => Syncs::begin(file)?,
        };
        // One that is at work takes these bytes too, or is woken again by the next ones. One that
        // has failed says so at the end.
        let _ = syncs.wake.try_send(());
        state.syncs = Some(syncs);
        Ok(())
    }

    /// Waits for the syncs. An error of theirs is one that the file's own next sync would not tell.
    pub fn finish(&self) -> io::Result<()> {
        let Some(Syncs { wake, thread }) = self.state().syncs.take() else {
            return Ok(());
        };
        drop(wake);
        let lost = |_| Err(io::Error::other("the thread that syncs has died"));
        thread.join().unwrap_or_else(lost)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Syncs {
    fn begin(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (wake, woken) = sync_channel(1);
        let thread = thread::Builder::new().name("write-behind".to_owned());
        Ok(Self {
            wake,
            thread: thread.spawn(move || sync(&file, &woken))?,
        })
    }
}

fn sync(file: &File, woken: &Receiver<()>) -> io::Result<()> {
    woken.iter().try_for_each(|()| file.sync_data())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_written_is_synced_on_the_way_and_a_failed_sync_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        let behind = WriteBehind::default();
        file.write_all(b"data").unwrap();
        behind.wrote(&file, STEP_BYTES - 1).unwrap();
        assert!(behind.state().syncs.is_none(), "too little to begin");
        behind.wrote(&file, 1).unwrap();
        assert!(behind.state().syncs.is_some());
        behind.finish().unwrap();

        // A pipe cannot be synced.
        let (_reader, writer) = io::pipe().unwrap();
        let unsyncable = File::from(std::os::fd::OwnedFd::from(writer));
        let behind = WriteBehind::default();
        for _ in 0..3 {
            behind.wrote(&unsyncable, STEP_BYTES).unwrap();
        }
        assert!(behind.finish().is_err());
    }
}
