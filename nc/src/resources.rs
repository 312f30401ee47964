//! What the host has: found by default, overridden by the configuration.

use std::{io, os::unix::fs::MetadataExt, path::Path};

use control::node::Shape;
use daemon::files;
use fiemap::FiemapExtentFlags;
use nix::sys::statvfs::statvfs;
use types::{Gib, Mib};

use crate::config::Capacity;

/// What the host's own system, libvirtd and this daemon need.
const HOST_MIB: u64 = 1024;
/// On a file system that is nearly full the cache may claim this part of what is free, whatever its
/// limit: it evicts, and a node without any room for disks is none.
const CACHE_PART: u64 = 2;

/// What a host was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Processors.
    pub cpus: u32,
    /// Memory in all, MiB.
    pub memory_mib: u64,
    /// Bytes that instances could fill: what is free, and what they have already, less what the
    /// image cache may still take of the same file system.
    pub disk_bytes: u64,
}

impl Found {
    /// Looks at this host and at the filesystem of that folder, of which the image cache may still
    /// take so many bytes.
    pub fn look(instances: &Path, cache_bytes: u64) -> io::Result<Self> {
        let free = free_bytes(instances)?;
        let promised = cache_bytes.min(free / CACHE_PART);
        Ok(Self {
            cpus: std::thread::available_parallelism()
                .map_or(1, |n| n.get().try_into().unwrap_or(1)),
            memory_mib: memory_mib(&files::read_text("/proc/meminfo")?),
            disk_bytes: (free + taken_bytes(instances)).saturating_sub(promised),
        })
    }

    /// What instances may take.
    pub fn capacity(&self, settings: &Capacity) -> Shape {
        let or_found = |set: u32, found: u64| {
            if set > 0 {
                set
            } else {
                u32::try_from(found).unwrap_or(u32::MAX)
            }
        };
        let vcpus = f64::from(self.cpus) * settings.cpu_overcommit;
        Shape {
            // Whole processors, of a product that the configuration's check keeps small.
            vcpus: or_found(settings.vcpus, vcpus.floor() as u64),
            memory_mib: Mib(or_found(
                settings.memory_mib,
                self.memory_mib
                    .saturating_sub(HOST_MIB.min(self.memory_mib / 4)),
            )),
            disk_gib: Gib(or_found(settings.disk_gib, self.disk_bytes >> 30)),
        }
    }
}

/// What the filesystem of a folder has free.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let filesystem = statvfs(folder)?;
    Ok(filesystem.blocks_available() * filesystem.fragment_size())
}

fn memory_mib(meminfo: &str) -> u64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok());
    kib.unwrap_or(0_u64) / 1024
}

/// What the files of all instances take, two levels deep. What a clone shares with its image is not
/// the instance's.
fn taken_bytes(instances: &Path) -> u64 {
    let files = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    files(instances)
        .flat_map(|instance| files(&instance.path()))
        .filter_map(|file| own_bytes(&file.path()).ok())
        .sum()
}

/// The bytes on disk that are this file's alone.
pub fn own_bytes(file: &Path) -> io::Result<u64> {
    let extents = fiemap::fiemap(file)?.flatten();
    let shared: u64 = extents
        .filter(|extent| extent.fe_flags.contains(FiemapExtentFlags::SHARED))
        .map(|extent| extent.fe_length)
        .sum();
    // A file system that does not list extents has none that are shared.
    Ok((file.metadata()?.blocks() * 512).saturating_sub(shared))
}

/// Which boot of the host this is.
pub fn boot_id() -> Result<String, files::Error> {
    Ok(files::read_text("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Found = Found {
        cpus: 2,
        memory_mib: 8192,
        disk_bytes: 100 << 30,
    };

    #[test]
    fn what_is_not_set_is_what_was_found_less_what_the_host_needs() {
        let found = HOST.capacity(&Capacity::default());
        assert_eq!(
            found,
            Shape {
                vcpus: 8,
                memory_mib: Mib(7168),
                disk_gib: Gib(100)
            }
        );

        let set = Capacity {
            vcpus: 16,
            memory_mib: 1,
            disk_gib: 3,
            cpu_overcommit: 1.0,
        };
        assert_eq!(
            HOST.capacity(&set),
            Shape {
                vcpus: 16,
                memory_mib: Mib(1),
                disk_gib: Gib(3)
            }
        );
    }

    #[test]
    fn this_host_is_found_to_have_something() {
        let found = Found::look(Path::new("/"), 0).unwrap();
        assert!(found.cpus > 0 && found.memory_mib > 0);
        assert!(found.disk_bytes > 0, "a cache elsewhere takes nothing");
        let shared = Found::look(Path::new("/"), u64::MAX).unwrap();
        assert!(
            shared.disk_bytes < found.disk_bytes,
            "what the cache may take is not promised"
        );
        assert!(!boot_id().unwrap().is_empty());
    }

    #[test]
    fn memory_is_read_in_mib() {
        assert_eq!(memory_mib("MemTotal:       2048 kB\n"), 2);
    }
}
