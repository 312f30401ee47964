//! The cache as the administrator sees it: what there is and what is on its way; images fetched before
//! anybody launches them, and removed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, Weak},
    time::UNIX_EPOCH,
};

use control::{
    CallError, Code,
    caches::{CacheReport, CachedEntry, NodeWarm},
};
use types::{ImageId, ImageKind, Timestamp};

use super::{
    Cache, EntryName, Form, Told,
    folder::{Entry, Folder, FolderError, Part},
    lease::{self, Beat},
};

/// Images that were to be fetched, and the reason of those that could not be.
pub type Warming = Mutex<HashMap<EntryName, Option<String>>>;

/// What the folder says.
struct Looked {
    limit_bytes: u64,
    free_bytes: u64,
    entries: Vec<Entry>,
    parts: Vec<Part>,
    leases: Vec<(EntryName, Beat)>,
}

impl Cache {
    /// What there is, and what is on its way.
    pub async fn report(&self) -> Result<CacheReport, CallError> {
        let looked = self.looked().await?;
        let used = looked.entries.iter().map(|entry| entry.bytes);
        let mut entries: Vec<CachedEntry> = looked.entries.iter().map(whole).collect();
        entries.extend(self.on_their_way(&looked));
        Ok(CacheReport {
            limit_bytes: looked.limit_bytes,
            used_bytes: used.sum(),
            free_bytes: looked.free_bytes,
            entries,
        })
    }

    async fn looked(&self) -> Result<Looked, CallError> {
        if let Some(why) = self.silence() {
            return Err(CallError::new(Code::NotReady, why));
        }
        let shared = self.shared.clone();
        let look = move |folder: &Folder| -> Result<Looked, FolderError> {
            let (limit_bytes, free_bytes) = shared.filler.limits(folder)?;
            Ok(Looked {
                limit_bytes,
                free_bytes,
                entries: folder.entries()?,
                parts: folder.parts()?,
                leases: lease::all(folder)?,
            })
        };
        let looked = self.shared.files.run(look).await;
        looked.map_err(|error| CallError::internal(&error))
    }

    /// What is being fetched here, by others who share the folder, and what could not be.
    fn on_their_way(&self, looked: &Looked) -> Vec<CachedEntry> {
        let mut found: HashMap<EntryName, (Told, bool)> = HashMap::new();
        for (name, why) in self.warming().iter() {
            let doing = why.clone().unwrap_or_default();
            let told = Told {
                doing,
                ..Told::default()
            };
            found.insert(name.clone(), (told, why.is_some()));
        }
        for (name, beat) in &looked.leases {
            let told = Told {
                doing: format!("fetched by {}", beat.node),
                percent: Some(beat.percent),
                ..Told::default()
            };
            found.insert(name.clone(), (told, false));
        }
        let flights = self.shared.flights.lock();
        let flights = flights.expect("no one panics holding it");
        for (name, flight) in flights.iter() {
            if let Some(flight) = Weak::upgrade(flight) {
                let state = flight.state.borrow();
                if state.landed.is_none() {
                    found.insert(name.clone(), (state.told.clone(), false));
                }
            }
        }
        let is_whole = |name: &EntryName| looked.entries.iter().any(|entry| entry.name == *name);
        let mut entries: Vec<CachedEntry> = found
            .into_iter()
            .filter(|(name, _)| !is_whole(name))
            .map(|(name, (told, failed))| {
                let parts = looked.parts.iter().filter(|part| part.name == name);
                CachedEntry {
                    image: name.image(),
                    entry: name.to_string(),
                    bytes: parts.map(|part| part.bytes).sum(),
                    used_at: None,
                    uses: 0,
                    percent: (!failed).then_some(told.percent.unwrap_or_default()),
                    doing: told.doing,
                    failed,
                }
            })
            .collect();
        entries.sort_by(|a, b| a.entry.cmp(&b.entry));
        entries
    }

    /// Fetches an image on the side. Asked again while it is on its way, it changes nothing.
    pub async fn warm(&self, ask: NodeWarm) -> Result<CacheReport, CallError> {
        let form = match ask.kind {
            ImageKind::Machine => Form::Disk,
            ImageKind::Kernel | ImageKind::Ramdisk => Form::Plain,
        };
        let name = EntryName::of(&ask.image, form).ok_or_else(|| {
            CallError::new(
                Code::Invalid,
                "the image's manifest digest is not a SHA-256",
            )
        })?;
        let report = self.report().await?;
        let is_under_way = matches!(self.warming().get(&name), Some(None));
        if !is_under_way {
            self.warming().insert(name.clone(), None);
            let cache = self.clone();
            tokio::spawn(async move {
                let fetched = cache
                    .patiently(&|_| {}, || cache.fetch(&name, &ask.image))
                    .await;
                match fetched {
                    Ok(()) => cache.warming().remove(&name),
                    Err(error) => cache.warming().insert(name, Some(error.to_string())),
                }
            });
        }
        Ok(report)
    }

    /// Removes all entries of an image. `Conflict` if an instance stands on one.
    pub async fn evict(&self, image: &ImageId) -> Result<CacheReport, CallError> {
        let looked = self.looked().await?;
        let ours = looked
            .entries
            .into_iter()
            .filter(|e| e.name.image() == *image);
        let (names, uses): (Vec<EntryName>, Vec<usize>) = ours.map(|e| (e.name, e.uses)).unzip();
        let of = names.clone();
        let evicted = self.shared.files.run(move |folder| {
            let evicted = of.iter().map(|name| folder.evict(name));
            evicted.collect::<Result<Vec<bool>, _>>()
        });
        let evicted = evicted.await.map_err(|error| CallError::internal(&error))?;
        self.warming().retain(|name, _| name.image() != *image);

        let gone = names.iter().zip(&evicted).filter(|(_, gone)| **gone);
        self.shared
            .filler
            .tell_gone(gone.map(|(name, _)| name.clone()).collect());
        if evicted.contains(&false) {
            let uses: usize = uses.iter().sum();
            let what = format!("{image} is in use by {} instances", uses.max(1));
            return Err(CallError::new(Code::Conflict, what));
        }
        self.report().await
    }

    fn warming(&self) -> MutexGuard<'_, HashMap<EntryName, Option<String>>> {
        let warming = self.shared.warming.lock();
        warming.expect("no one panics holding it")
    }
}

fn whole(entry: &Entry) -> CachedEntry {
    let used = entry.used_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    CachedEntry {
        image: entry.name.image(),
        entry: entry.name.to_string(),
        bytes: entry.bytes,
        used_at: Some(Timestamp(used.as_millis() as i64)),
        uses: u32::try_from(entry.uses).unwrap_or(u32::MAX),
        percent: None,
        doing: String::new(),
        failed: false,
    }
}
