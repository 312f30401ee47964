//! The name of a cache entry: image id, SHA-256 of the manifest, recipe, form. Nothing in it was
//! chosen by a user, and a change of any of the four is another entry.

use std::{fmt, str::FromStr};

use control::node::ImageRef;
use image::{boot::RECIPE_VERSION, digest::Sha256Digest, unbundle::Shape};
use types::ImageId;

/// What is made of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// A bootable disk.
    Disk,
    /// The bytes as they are: a kernel or a ramdisk.
    Plain,
}

impl Form {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Plain => "plain",
        }
    }

    /// The form as the pipeline knows it.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Disk => Shape::Disk,
            Self::Plain => Shape::Verbatim,
        }
    }
}

/// An entry's name, and its file's: `emi-…_SHA256_r1.disk`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(String);

impl EntryName {
    /// The entry of an image in a form; none if the image's digest is none.
    pub fn of(image: &ImageRef, form: Form) -> Option<Self> {
        let digest: Sha256Digest = image.manifest_sha256.parse().ok()?;
        Some(Self(format!(
            "{}_{digest}_r{RECIPE_VERSION}.{}",
            image.id,
            form.as_str()
        )))
    }

    /// What the entry is made as.
    pub fn form(&self) -> Form {
        match self.0.ends_with(Form::Plain.as_str()) {
            true => Form::Plain,
            false => Form::Disk,
        }
    }

    /// The image that it was made of.
    pub fn image(&self) -> ImageId {
        let id = self.0.split('_').next().and_then(|id| id.parse().ok());
        id.expect("a name begins with an image id")
    }

    /// The name as text, which is a safe file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that names no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEntry;

impl FromStr for EntryName {
    type Err = NotAnEntry;

    /// Reads a file's name back; of any recipe, since entries of an older one may be in use.
    fn from_str(text: &str) -> Result<Self, NotAnEntry> {
        let parts = || {
            let (stem, form) = text.split_once('.')?;
            let mut fields = stem.split('_');
            let (id, digest, recipe) = (fields.next()?, fields.next()?, fields.next()?);
            let number = recipe.strip_prefix('r')?;
            let well_formed = fields.next().is_none()
                && id.parse::<ImageId>().is_ok()
                && digest.parse::<Sha256Digest>().is_ok()
                && number.parse::<u32>().is_ok()
                && [Form::Disk.as_str(), Form::Plain.as_str()].contains(&form);
            well_formed.then(|| Self(text.to_owned()))
        };
        parts().ok_or(NotAnEntry)
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digest: &str) -> ImageRef {
        ImageRef {
            id: "emi-12345678".parse().unwrap(),
            manifest_sha256: digest.to_owned(),
            size_bytes: 1,
        }
    }

    #[test]
    fn a_name_reads_back_and_is_one_path_component() {
        let digest = "ab".repeat(32);
        let name = EntryName::of(&image(&digest), Form::Disk).unwrap();
        assert_eq!(
            name.as_str(),
            format!("emi-12345678_{digest}_r{RECIPE_VERSION}.disk")
        );
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert_ne!(EntryName::of(&image(&digest), Form::Plain), Some(name));
    }

    #[test]
    fn what_is_no_digest_or_no_name_is_refused() {
        for digest in ["", "../../etc/passwd", "zz", &"ab".repeat(31)] {
            assert_eq!(EntryName::of(&image(digest), Form::Disk), None);
        }
        for text in ["", ".disk", "emi-12345678_x_r1.disk", "..", "a/b"] {
            assert!(text.parse::<EntryName>().is_err());
        }
    }
}
