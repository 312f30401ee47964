//! Which node fills an entry. A lease saves work, it does not guard correctness: two nodes that fill
//! the same entry make the same file and publish it by a rename.
//!
//! The lease is a file that its holder rewrites every few seconds. Others judge by their own
//! monotonic clock whether it still changes; nobody compares clocks. A silent lease is taken over.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    EntryName,
    folder::{Folder, FolderError, at, remove_if_there},
};

/// How often the holder writes.
pub const BEAT: Duration = Duration::from_secs(3);
/// How long a lease may stay the same before it is taken over: ten beats.
pub const SILENCE: Duration = Duration::from_secs(30);
/// After taking over, how long to wait for another who did the same at the same time.
const SETTLE: Duration = Duration::from_millis(100);

/// The times of a lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// How often the holder writes.
    pub beat: Duration,
    /// How long it may be silent.
    pub silence: Duration,
    /// How often those who wait look.
    pub poll: Duration,
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Who fills.
    pub node: String,
    /// Which run of its daemon.
    pub run: String,
    /// Grows with every beat.
    pub count: u64,
    /// How far it is.
    pub percent: u8,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// The entry is ours to fill.
    Ours(Lease),
    /// Someone else is at it.
    Held(Beat),
}

/// A lease that we hold; given up when it is dropped.
#[derive(Debug)]
pub struct Lease {
    folder: Folder,
    name: EntryName,
    count: AtomicU64,
}

impl Lease {
    /// Claims the entry.
    pub fn claim(folder: &Folder, name: &EntryName) -> Result<Claim, FolderError> {
        let path = folder.lease(name);
        let draft = draft(folder, name, 0, 0)?;
        // A link to a finished file appears whole or not at all, on NFS too.
        let linked = fs::hard_link(&draft, &path);
        remove_if_there(&draft)?;
        match linked {
            Ok(()) => Ok(Claim::Ours(Self::held(folder, name))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // An unreadable lease was given up this instant, or is damaged: then it counts as
                // one that is silent from now on.
                Ok(Claim::Held(
                    read(&path).unwrap_or_else(|| Beat::unreadable(name)),
                ))
            }
            Err(error) => Err(at("claiming", &path)(error)),
        }
    }

    /// Takes the lease from a holder that was last heard saying `silent`. None if another did.
    pub async fn take_over(
        folder: &Folder,
        name: &EntryName,
        silent: &Beat,
    ) -> Result<Option<Self>, FolderError> {
        replace(folder, name, 0, 0)?;
        tokio::time::sleep(SETTLE).await;
        if !is_ours(folder, name) {
            return Ok(None);
        }
        let lease = Self::held(folder, name);
        folder.remove_half_made_by(name, &silent.node, &silent.run)?;
        Ok(Some(lease))
    }

    fn held(folder: &Folder, name: &EntryName) -> Self {
        Self {
            folder: folder.clone(),
            name: name.clone(),
            count: AtomicU64::new(1),
        }
    }

    /// Says that we are still at it. A lease that was taken from us is left alone.
    pub fn beat(&self, percent: u8) -> Result<(), FolderError> {
        if !is_ours(&self.folder, &self.name) {
            return Ok(());
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        replace(&self.folder, &self.name, count, percent)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if is_ours(&self.folder, &self.name) {
            let _best_effort = fs::remove_file(self.folder.lease(&self.name));
        }
    }
}

fn is_ours(folder: &Folder, name: &EntryName) -> bool {
    read(&folder.lease(name)).is_some_and(|beat| beat.run == folder.run())
}

fn replace(folder: &Folder, name: &EntryName, count: u64, percent: u8) -> Result<(), FolderError> {
    let path = folder.lease(name);
    fs::rename(draft(folder, name, count, percent)?, &path).map_err(at("renewing", &path))
}

/// A finished lease under a name that only this run uses.
fn draft(
    folder: &Folder,
    name: &EntryName,
    count: u64,
    percent: u8,
) -> Result<PathBuf, FolderError> {
    let (node, run) = (folder.node().to_owned(), folder.run().to_owned());
    let draft = folder
        .lease(name)
        .with_file_name(format!(".{name}.{run}.draft"));
    let text = serde_json::to_vec(&Beat {
        node,
        run,
        count,
        percent,
    })
    .expect("plain data");
    fs::write(&draft, text).map_err(at("writing", &draft))?;
    Ok(draft)
}

impl Beat {
    fn unreadable(name: &EntryName) -> Self {
        Self {
            node: String::new(),
            run: name.to_string(),
            count: 0,
            percent: 0,
        }
    }
}

/// The node that a lease file names.
pub(super) fn holder_of(path: &Path) -> Option<String> {
    read(path).map(|beat| beat.node)
}

fn read(path: &Path) -> Option<Beat> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> EntryName {
        format!("emi-00000001_{}_r1.disk", "00".repeat(32))
            .parse()
            .unwrap()
    }

    #[tokio::test]
    async fn one_holds_the_other_waits_and_takes_over_from_the_silent() {
        let root = tempfile::tempdir().unwrap();
        let one = Folder::open(root.path(), "node-00000001").unwrap();
        let two = Folder::open(root.path(), "node-00000002").unwrap();
        let Claim::Ours(ones) = Lease::claim(&one, &name()).unwrap() else {
            panic!("not ours")
        };
        ones.beat(40).unwrap();
        let Claim::Held(beat) = Lease::claim(&two, &name()).unwrap() else {
            panic!("not held")
        };
        assert_eq!((beat.node.as_str(), beat.percent), ("node-00000001", 40));

        let twos = Lease::take_over(&two, &name(), &beat)
            .await
            .unwrap()
            .unwrap();
        ones.beat(50).unwrap();
        drop(ones);
        assert!(
            one.lease(&name()).exists(),
            "a lease that was taken is not the old holder's"
        );
        drop(twos);
        assert!(!one.lease(&name()).exists());
        assert!(matches!(
            Lease::claim(&one, &name()).unwrap(),
            Claim::Ours(_)
        ));
    }
}
