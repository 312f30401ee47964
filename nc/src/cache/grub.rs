//! The boot loader for partition images: GRUB's core image, linked once per node by `grub-mkimage`
//! and kept beside the entries.

use std::{path::PathBuf, sync::Arc};

use daemon::run::{self, Tool};
use image::boot::{BootError, BootLoader, CoreInputs, core_name};
use tokio::sync::OnceCell;

use super::{
    files::Files,
    folder::{FolderError, at},
};

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
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// The loader, made when it is first needed.
pub struct Grub {
    files: Files,
    modules: PathBuf,
    loader: OnceCell<Arc<BootLoader>>,
}

impl Grub {
    /// Keeps the core image in the cache's folder; takes GRUB's own files from `modules`.
    pub fn new(files: Files, modules: PathBuf) -> Self {
        Self {
            files,
            modules,
            loader: OnceCell::new(),
        }
    }

    /// The loader.
    pub async fn loader(&self) -> Result<Arc<BootLoader>, GrubError> {
        self.loader.get_or_try_init(|| self.make()).await.cloned()
    }

    async fn make(&self) -> Result<Arc<BootLoader>, GrubError> {
        if let Ok(loader) = self.load().await? {
            return Ok(loader);
        }
        self.link().await?;
        Ok(self.load().await??)
    }

    async fn load(&self) -> Result<Result<Arc<BootLoader>, BootError>, FolderError> {
        let boot_image = self.modules.join("boot.img");
        let load = move |core: PathBuf| BootLoader::load(&boot_image, &core).map(Arc::new);
        let loaded = self
            .files
            .run(move |folder| Ok(load(folder.boot().join(core_name()))));
        loaded.await
    }

    async fn link(&self) -> Result<(), GrubError> {
        // Another node may do the same: each works in its own folder, the last rename wins.
        let folder = self.files.folder().boot();
        let work = folder.join(format!("work-{:016x}", rand::random::<u64>()));
        let (inputs, modules) = (work.clone(), self.modules.clone());
        let arguments = self.files.run(move |_| {
            std::fs::create_dir(&inputs).map_err(at("making", &inputs))?;
            let written = CoreInputs::write(&inputs);
            Ok(written.map(|core| core.mkimage_arguments(&modules, &inputs.join("core.img"))))
        });
        let linked = match arguments.await? {
            Ok(arguments) => {
                let tool = Tool::new("grub-mkimage").args(arguments).output().await;
                tool.map(drop).map_err(GrubError::from)
            }
            Err(error) => Err(error.into()),
        };
        let keep = linked.is_ok();
        let kept = self.files.run(move |_| {
            let core = folder.join(core_name());
            if keep {
                std::fs::rename(work.join("core.img"), &core).map_err(at("keeping", &core))?;
            }
            std::fs::remove_dir_all(&work).map_err(at("removing", &work))
        });
        kept.await?;
        linked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{files::PATIENCE, folder::Folder};

    fn files(root: &std::path::Path) -> Files {
        Files::new(Folder::at(root, "node-00000001"), PATIENCE)
    }

    #[tokio::test]
    async fn host_the_core_image_is_linked_once_and_found_again() {
        let root = tempfile::tempdir().unwrap();
        let modules = PathBuf::from("/usr/lib/grub/i386-pc");
        let grub = Grub::new(files(root.path()), modules.clone());
        grub.loader().await.unwrap();
        let boot = files(root.path()).folder().boot();
        let core = boot.join(core_name());
        let made_at = std::fs::metadata(&core).unwrap().modified().unwrap();
        assert_eq!(std::fs::read_dir(boot).unwrap().count(), 1);

        Grub::new(files(root.path()), modules)
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
        let grub = Grub::new(files(root.path()), root.path().join("none"));
        let error = grub.loader().await.unwrap_err().to_string();
        assert!(error.contains("grub-mkimage"), "{error}");
    }
}
