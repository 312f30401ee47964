//! Damaged places of the journal that an administrator gave up: what stood there is lost, and it is no
//! reason any more to keep everything. Compaction takes their segments away in the end.

use std::{collections::BTreeSet, path::Path};

use super::{
    failure::{During, Result},
    journal::Damage,
};

/// Beside the journal.
const FILE: &str = "given-up.json";

/// Such places: segments, and offsets in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenUp(BTreeSet<(u64, u64)>);

impl GivenUp {
    /// What was given up in a folder. A file that cannot be read gives up nothing.
    pub fn read(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "nothing is taken as given up");
                return Self::default();
            }
        };
        let places = serde_json::from_slice(&text);
        Self(places.unwrap_or_else(|error| {
            tracing::error!(%error, path = %path.display(), "nothing is taken as given up");
            BTreeSet::new()
        }))
    }

    /// Gives up more.
    pub fn add(folder: &Path, damage: &[Damage]) -> Result<()> {
        let Self(mut places) = Self::read(folder);
        places.extend(damage.iter().map(|one| (one.segment, one.offset)));
        let text = serde_json::to_vec(&places).expect("numbers are plain JSON");
        let path = folder.join(FILE);
        let kept = daemon::files::publish(&path, &text).map_err(std::io::Error::from);
        kept.during("write", &path)
    }

    /// Whether a place was given up.
    pub fn has(&self, segment: u64, offset: u64) -> bool {
        self.0.contains(&(segment, offset))
    }

    /// The same for what is damaged there.
    pub fn has_damage(&self, damage: &Damage) -> bool {
        self.has(damage.segment, damage.offset)
    }
}
