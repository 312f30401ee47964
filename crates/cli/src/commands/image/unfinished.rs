//! The key of an upload that is not finished, kept so that the next try goes on where this one broke
//! off: the same key makes the same parts, and what the store has already is not sent again.
//!
//! It lies in the user's own state folder, readable by the user alone, beside the image that it is
//! for in every sense: whoever reads the one can read the other. It goes when the upload is done.

use std::{fs, io, path::PathBuf};

use image::{digest::Sha256Digest, keys::BundleKey};

use crate::environment;

/// A key on disk is two lines of hex.
const MODE: u32 = 0o600;

/// An upload, until it is [done](Self::done).
pub(super) struct Unfinished {
    /// What its parts are encrypted with.
    pub(super) key: BundleKey,
    /// Whether an earlier try may have left parts in the store.
    pub(super) is_resumed: bool,
    file: Option<PathBuf>,
}

impl Unfinished {
    /// Takes up the upload of that image to that place, or begins it. Without a folder to keep the
    /// key in, a try that breaks off is simply done again.
    pub(super) fn of(image: &str, place: &str) -> Self {
        let file = folder().map(|folder| {
            let what = Sha256Digest::of(format!("{image}\n{place}").as_bytes());
            folder.join(format!("upload-{what}.key"))
        });
        if let Some(key) = file.as_ref().and_then(read) {
            return Self {
                key,
                is_resumed: true,
                file,
            };
        }
        let key = BundleKey::mint();
        let file = file.filter(|file| keep(file, &key).is_ok());
        Self {
            key,
            is_resumed: false,
            file,
        }
    }

    /// The manifest is there: nothing is left to go on with.
    pub(super) fn done(self) {
        if let Some(file) = self.file {
            let _stays = fs::remove_file(file);
        }
    }
}

fn folder() -> Option<PathBuf> {
    let state = environment::path("XDG_STATE_HOME")
        .or_else(|| Some(environment::path("HOME")?.join(".local/state")));
    Some(state?.join("mallee"))
}

fn read(file: &PathBuf) -> Option<BundleKey> {
    let text = fs::read_to_string(file).ok()?;
    let (key, iv) = text.trim().split_once('\n')?;
    BundleKey::from_hex(key, iv).ok()
}

fn keep(file: &PathBuf, key: &BundleKey) -> io::Result<()> {
    let text = format!("{}\n{}\n", hex::encode(key.key()), hex::encode(key.iv()));
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    daemon::files::publish_mode(file, text.as_bytes(), MODE).map_err(io::Error::other)
}
