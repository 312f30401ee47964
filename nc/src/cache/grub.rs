//! The boot loader for partition images: GRUB's core image, linked once per node by `grub-mkimage`
//! and kept beside the entries.

use std::{path::PathBuf, sync::Arc};

use daemon::run::{self, Tool};
use image::boot::{BootError, BootLoader, CoreInputs, core_name};
use tokio::sync::OnceCell;

/// Why there is no boot loader.
#[derive(Debug, thiserror::Error)]
pub enum GrubError {
    /// `grub-mkimage` is missing or failed.
    #[error("grub-mkimage (Debian: grub-common, grub-pc-bin): {0}")]
    Link(#[from] run::Error),
    /// GRUB's files or the disk.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The folder cannot be written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The loader, made when it is first needed.
pub struct Grub {
    folder: PathBuf,
    modules: PathBuf,
    loader: OnceCell<Arc<BootLoader>>,
}

impl Grub {
    /// Keeps the core image in `folder`; takes GRUB's own files from `modules`.
    pub fn new(folder: PathBuf, modules: PathBuf) -> Self {
        Self {
            folder,
            modules,
            loader: OnceCell::new(),
        }
    }

    /// The loader.
    pub async fn loader(&self) -> Result<Arc<BootLoader>, GrubError> {
        self.loader.get_or_try_init(|| self.make()).await.cloned()
    }

    async fn make(&self) -> Result<Arc<BootLoader>, GrubError> {
        let core = self.folder.join(core_name());
        let boot_image = self.modules.join("boot.img");
        if let Ok(loader) = BootLoader::load(&boot_image, &core) {
            return Ok(Arc::new(loader));
        }
        // Another node may do the same: each works in its own folder, the last rename wins.
        let work = self
            .folder
            .join(format!("work-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&work)?;
        let made = self.link(&work, &core).await;
        std::fs::remove_dir_all(&work)?;
        made?;
        Ok(Arc::new(BootLoader::load(&boot_image, &core)?))
    }

    async fn link(&self, work: &std::path::Path, core: &std::path::Path) -> Result<(), GrubError> {
        let draft = work.join("core.img");
        let arguments = CoreInputs::write(work)?.mkimage_arguments(&self.modules, &draft);
        Tool::new("grub-mkimage").args(arguments).output().await?;
        std::fs::rename(draft, core)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn host_the_core_image_is_linked_once_and_found_again() {
        let root = tempfile::tempdir().unwrap();
        let modules = PathBuf::from("/usr/lib/grub/i386-pc");
        let grub = Grub::new(root.path().to_owned(), modules.clone());
        grub.loader().await.unwrap();
        let core = root.path().join(core_name());
        let made_at = std::fs::metadata(&core).unwrap().modified().unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);

        Grub::new(root.path().to_owned(), modules)
            .loader()
            .await
            .unwrap();
        assert_eq!(
            std::fs::metadata(&core).unwrap().modified().unwrap(),
            made_at
        );
    }

    #[tokio::test]
    async fn without_grubs_files_the_error_names_them() {
        let root = tempfile::tempdir().unwrap();
        let grub = Grub::new(root.path().to_owned(), root.path().join("none"));
        let error = grub.loader().await.unwrap_err().to_string();
        assert!(error.contains("grub-mkimage"), "{error}");
    }
}
