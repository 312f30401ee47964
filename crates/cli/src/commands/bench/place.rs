//! What is measured: the file system under a folder, its mount options, its device.

use std::{fs, path::Path};

use serde::Serialize;

use crate::Failure;

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) folder: String,
    /// `ext4`, `xfs`, ...
    pub(super) file_system: String,
    /// Of the mount and of the file system.
    pub(super) mount_options: String,
    /// `/dev/sda1`, or what the mount names instead.
    pub(super) device: String,
    /// What the kernel says of it: a file for a loop device, whether it spins, its write cache.
    pub(super) device_is: String,
}

impl Place {
    /// Looks.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::failed(folder.display().to_string(), error);
        let folder = fs::canonicalize(folder).map_err(failed)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        let Mount {
            file_system,
            device,
            options,
        } = find(&mounts, &folder).unwrap_or_default();
        Ok(Self {
            folder: folder.display().to_string(),
            file_system,
            mount_options: options,
            device_is: describe(Path::new(&device)),
            device,
        })
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Mount {
    file_system: String,
    device: String,
    options: String,
}

/// The mount that the folder is in: `proc(5)` has the columns.
fn find(mounts: &str, folder: &Path) -> Option<Mount> {
    let rows = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let ([_, _, _, _, point, own, ..], [kind, source, more]) = (&left[..], &right[..]) else {
            return None;
        };
        let is_it = folder.starts_with(point);
        is_it.then_some((point.len(), *kind, *source, *own, *more))
    });
    // The innermost; of two in one place the later, which hides the other.
    let (_, kind, source, own, more) = rows.max_by_key(|row| row.0)?;
    let mut options: Vec<&str> = own.split(',').chain(more.split(',')).collect();
    let mut seen = Vec::new();
    options.retain(|option| {
        !seen.contains(option) && {
            seen.push(*option);
            true
        }
    });
    Some(Mount {
        file_system: kind.to_owned(),
        device: source.to_owned(),
        options: options.join(","),
    })
}

fn describe(device: &Path) -> String {
    let device = fs::canonicalize(device).unwrap_or_default();
    let device = Path::new("/sys/class/block").join(device.file_name().unwrap_or_default());
    let read = |name: &str| {
        let text = fs::read_to_string(device.join(name));
        // A partition's queue is its disk's.
        let text = text.or_else(|_| fs::read_to_string(device.join("..").join(name)));
        text.ok().map(|text| text.trim().to_owned())
    };
    let spins = match read("queue/rotational").as_deref() {
        Some("1") => Some("spinning, or not known not to be".to_owned()),
        Some(_) => Some("not spinning".to_owned()),
        None => None,
    };
    let file = read("loop/backing_file").map(|file| format!("file {file}"));
    let cache = read("queue/write_cache").map(|cache| format!("write cache: {cache}"));
    let said: Vec<String> = [file, spins, cache].into_iter().flatten().collect();
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
29 1 254:0 / / rw,relatime - ext4 /dev/vda rw,errors=remount-ro
40 29 7:1 / /srv/disks rw,noatime - xfs /dev/loop1 rw,attr2,noquota
41 29 7:1 / /srv/disks/in rw - xfs /dev/loop1 rw,attr2";

    #[test]
    fn the_innermost_mount_is_found_with_all_its_options() {
        let found = find(MOUNTS, Path::new("/srv/disks/n1")).unwrap();
        assert_eq!(found.options, "rw,noatime,attr2,noquota");
        assert_eq!((&*found.file_system, &*found.device), ("xfs", "/dev/loop1"));
        assert_eq!(find(MOUNTS, Path::new("/srv")).unwrap().device, "/dev/vda");
        assert!(find("nonsense", Path::new("/srv")).is_none());
    }

    #[test]
    fn this_host_has_a_file_system() {
        let place = Place::of(&std::env::temp_dir()).unwrap();
        assert!(!place.file_system.is_empty(), "{place:?}");
    }
}
