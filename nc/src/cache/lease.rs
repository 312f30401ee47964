//! Which node fills an entry. A lease saves work, it does not guard correctness: two nodes that fill
//! the same entry make the same file, and publishing replaces nothing ([`Folder::publish`]). A holder
//! that was only slow learns at its next beat, or at the latest when it publishes, that it was
//! taken over.
//!
//! The lease is a file that its holder rewrites every few seconds. Others judge by their own
//! monotonic clock whether it still changes; nobody compares clocks. A silent lease is taken over.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    EntryName,
    folder::{Folder, FolderError, at, list, remove_if_there, reserve_name},
};

/// How often the holder writes.
pub const BEAT: Duration = Duration::from_secs(3);
/// How long a lease may stay the same before it is taken over: ten beats.
pub const SILENCE: Duration = Duration::from_secs(30);
/// How often those who wait look: launches are watched by people.
const POLL: Duration = Duration::from_millis(200);

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

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            beat: BEAT,
            silence: SILENCE,
            poll: POLL,
        }
    }
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Beat {
    /// Who fills.
    pub node: String,
    /// Which run of its daemon.
    pub run: String,
    /// Grows with every beat.
    pub count: u64,
    /// How far it is.
    pub percent: u8,
    /// How much room the entry may come to need; others leave it free.
    #[serde(default)]
    pub need_bytes: u64,
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// The entry is ours to fill.
    Ours(Lease),
    /// Someone else is at it.
    Held(Beat),
}

/// A lease that we hold; given up when it is dropped, which is a file call.
#[derive(Debug)]
pub struct Lease {
    folder: Folder,
    name: EntryName,
    count: AtomicU64,
    need_bytes: AtomicU64,
    /// Beats have one draft, and the last one to begin is the last one to be read.
    beating: Mutex<()>,
}

impl Lease {
    /// Claims the entry.
    pub fn claim(folder: &Folder, name: &EntryName) -> Result<Claim, FolderError> {
        let path = folder.lease(name);
        // Not a beat's draft: the one before us in this process may be at its last.
        let draft = draft("claim", folder, name, 0, 0, 0)?;
        // A finished file takes the name whole or not at all.
        let taken = reserve_name(&draft, &path);
        remove_if_there(&draft)?;
        if taken.map_err(at("claiming", &path))? {
            return Ok(Claim::Ours(Self {
                folder: folder.clone(),
                name: name.clone(),
                count: AtomicU64::new(1),
                need_bytes: AtomicU64::new(0),
                beating: Mutex::default(),
            }));
        }
        // An unreadable lease was given up this instant, or is damaged: then it counts as one that
        // is silent from now on.
        Ok(Claim::Held(
            read(&path).unwrap_or_else(|| Beat::unreadable(name)),
        ))
    }

    /// Takes the lease from a holder that was last heard saying `silent`, and removes what it left.
    /// None if it speaks again, or another was faster.
    pub fn take_over(
        folder: &Folder,
        name: &EntryName,
        silent: &Beat,
    ) -> Result<Option<Self>, FolderError> {
        let (path, aside) = (folder.lease(name), private(folder, name, "taken"));
        match fs::rename(&path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("taking over", &path)(error)),
        }
        // Only one gets hold of a file by renaming it, so what it says now is what was taken.
        if read(&aside).unwrap_or_else(|| Beat::unreadable(name)) != *silent {
            let back = reserve_name(&aside, &path).map_err(at("giving back", &path));
            remove_if_there(&aside)?;
            return back.map(|_| None);
        }
        folder.remove_half_made_by(name, &silent.node, &silent.run)?;
        remove_if_there(&aside)?;
        match Self::claim(folder, name)? {
            Claim::Ours(lease) => Ok(Some(lease)),
            Claim::Held(_) => Ok(None),
        }
    }

    /// Says that we are still at it. False if the lease was taken from us: then it is left alone.
    pub fn beat(&self, percent: u8) -> Result<bool, FolderError> {
        let _one = self.beating.lock().expect("no one panics holding it");
        if !is_ours(&self.folder, &self.name) {
            return Ok(false);
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let need_bytes = self.need_bytes.load(Ordering::Relaxed);
        let path = self.folder.lease(&self.name);
        let draft = draft(
            "draft",
            &self.folder,
            &self.name,
            count,
            percent,
            need_bytes,
        )?;
        fs::rename(draft, &path).map_err(at("renewing", &path))?;
        Ok(true)
    }

    /// Says how much room the entry may come to need.
    pub fn will_need(&self, bytes: u64) -> Result<bool, FolderError> {
        self.need_bytes.store(bytes, Ordering::Relaxed);
        self.beat(0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if is_ours(&self.folder, &self.name) {
            let _best_effort = fs::remove_file(self.folder.lease(&self.name));
        }
    }
}

/// Every lease that can be read, with the entry that it is for.
pub fn all(folder: &Folder) -> Result<Vec<(EntryName, Beat)>, FolderError> {
    let lease = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_suffix(".lease")?;
        Some((name.parse().ok()?, read(&path)?))
    };
    Ok(list(&folder.filling())?
        .into_iter()
        .filter_map(lease)
        .collect())
}

fn is_ours(folder: &Folder, name: &EntryName) -> bool {
    read(&folder.lease(name)).is_some_and(|beat| beat.run == folder.run())
}

/// A finished lease under a name that only this run uses.
fn draft(
    what: &str,
    folder: &Folder,
    name: &EntryName,
    count: u64,
    percent: u8,
    need_bytes: u64,
) -> Result<PathBuf, FolderError> {
    let draft = private(folder, name, what);
    let text = serde_json::to_vec(&Beat {
        node: folder.node().to_owned(),
        run: folder.run().to_owned(),
        count,
        percent,
        need_bytes,
    })
    .expect("plain data");
    fs::write(&draft, text).map_err(at("writing", &draft))?;
    Ok(draft)
}

fn private(folder: &Folder, name: &EntryName, what: &str) -> PathBuf {
    let (node, run) = (folder.node(), folder.run());
    folder
        .filling()
        .join(format!(".{name}.{node}.{run}.{what}"))
}

impl Beat {
    fn unreadable(name: &EntryName) -> Self {
        Self {
            node: String::new(),
            run: name.to_string(),
            count: 0,
            percent: 0,
            need_bytes: 0,
        }
    }
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

    fn open(root: &Path, node: &str) -> Folder {
        let folder = Folder::at(root, node);
        folder.prepare().unwrap();
        folder
    }

    fn held(folder: &Folder) -> Beat {
        match Lease::claim(folder, &name()).unwrap() {
            Claim::Held(beat) => beat,
            Claim::Ours(_) => panic!("it was free"),
        }
    }

    fn ours(folder: &Folder) -> Lease {
        match Lease::claim(folder, &name()).unwrap() {
            Claim::Ours(lease) => lease,
            Claim::Held(beat) => panic!("held by {}", beat.node),
        }
    }

    #[test]
    fn one_holds_the_other_waits_and_takes_over_from_the_silent() {
        let root = tempfile::tempdir().unwrap();
        let one = open(root.path(), "node-00000001");
        let two = open(root.path(), "node-00000002");
        let ones = ours(&one);
        assert!(ones.beat(40).unwrap());
        let beat = held(&two);
        assert_eq!((beat.node.as_str(), beat.percent), ("node-00000001", 40));

        let twos = Lease::take_over(&two, &name(), &beat).unwrap().unwrap();
        assert!(!ones.beat(50).unwrap(), "it learns that it was taken over");
        drop(ones);
        assert!(
            one.lease(&name()).exists(),
            "a lease that was taken is not the old holder's"
        );
        drop(twos);
        assert!(!one.lease(&name()).exists());
        drop(ours(&one));
    }

    #[test]
    fn beats_at_once_take_nothing_from_each_other_and_forget_no_need() {
        let root = tempfile::tempdir().unwrap();
        let one = open(root.path(), "node-00000001");
        let (lease, other) = (ours(&one), open(root.path(), "node-00000002"));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..300).for_each(|n| assert!(lease.beat(n as u8).unwrap())));
            }
            // Whoever asks for the same entry meanwhile disturbs nobody either.
            scope.spawn(|| (0..300).for_each(|_| drop(held(&one))));
            for need in 1..300 {
                assert!(lease.will_need(need).unwrap());
                assert_eq!(held(&other).need_bytes, need);
            }
        });
    }

    #[test]
    fn a_holder_that_speaks_again_keeps_its_lease_and_its_half() {
        let root = tempfile::tempdir().unwrap();
        let one = open(root.path(), "node-00000001");
        let two = open(root.path(), "node-00000002");
        let ones = ours(&one);
        let half = one.begin(&name()).unwrap();
        let before = held(&two);
        assert!(ones.will_need(4096).unwrap());

        assert!(Lease::take_over(&two, &name(), &before).unwrap().is_none());
        assert!(ones.beat(1).unwrap());
        assert_eq!(held(&two).need_bytes, 4096);
        assert_eq!(one.parts().unwrap().len(), 1);
        assert_eq!(all(&two).unwrap().len(), 1);
        drop(half);
    }

    #[test]
    fn of_many_who_take_over_at_once_one_does() {
        let root = tempfile::tempdir().unwrap();
        let dead = open(root.path(), "node-00000009");
        std::mem::forget(ours(&dead));
        let heirs: Vec<Folder> = (1..=8)
            .map(|n| open(root.path(), &format!("node-0000000{n}")))
            .collect();
        let silent = held(&heirs[0]);
        let take = &|heir| Lease::take_over(heir, &name(), &silent).unwrap();
        let taken: Vec<Option<Lease>> = std::thread::scope(|scope| {
            let heirs = heirs.iter();
            let started: Vec<_> = heirs.map(|heir| scope.spawn(move || take(heir))).collect();
            let ended = started.into_iter().map(|heir| heir.join().unwrap());
            ended.collect()
        });
        assert_eq!(taken.iter().flatten().count(), 1);
        assert_eq!(fs::read_dir(dead.filling()).unwrap().count(), 1);
    }
}
