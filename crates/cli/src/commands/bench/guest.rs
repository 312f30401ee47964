//! The guest that is measured in: the kernel and the drivers of an image that `deploy/guest/build`
//! made, and this very program, with the libraries that it runs with, as what is started there. No
//! disk of the guest's own gets in the way of those that are measured.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use daemon::run::Tool;

use crate::Failure;

/// Loads the drivers, whatever order they need, and hands over. The program is started by its own
/// loader, so that its libraries need not lie where they lay on the host.
const INIT: &str = "\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for pass in 1 2 3 4 5 6; do
  for module in /modules/*.ko; do $b insmod $module 2>/dev/null; done
done
exec /bench/ld.so --library-path /bench /bench/mallee bench writer
";
/// Of a file and a folder in the archive.
const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;

/// A kernel and its initial RAM disk.
pub(super) struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) ramdisk: PathBuf,
}

impl Guest {
    /// Takes what it needs out of the image, into `dir`. Nothing is mounted.
    pub(super) async fn from_image(image: &Path, dir: &Path) -> Result<Self, Failure> {
        let (kernel, ramdisk) = (dir.join("vmlinuz"), dir.join("initrd"));
        let boot = debugfs(image, "ls -p /boot").await?;
        for (prefix, to) in [("vmlinuz", &kernel), ("initrd", &ramdisk)] {
            let name = newest(&boot, prefix).ok_or_else(|| {
                let image = image.display();
                Failure::Usage(format!(
                    "{image} has no /boot/{prefix}*: make a guest with deploy/guest/build"
                ))
            })?;
            debugfs(image, &format!("dump /boot/{name} {}", to.display())).await?;
        }
        append_ourselves(&ramdisk)
            .map_err(|error| Failure::failed("the guest's program", error))?;
        Ok(Self { kernel, ramdisk })
    }
}

async fn debugfs(image: &Path, command: &str) -> Result<String, Failure> {
    let tool = Tool::new("debugfs").args(["-R", command]).arg(image);
    let said = tool.text().await;
    said.map_err(|error| Failure::failed("reading the guest", error))
}

/// The last file of that prefix in a listing of debugfs: `/INODE/MODE/UID/GID/NAME/SIZE/`. Only
/// names that are one plain word are taken, since they go into a command again.
fn newest<'a>(listing: &'a str, prefix: &str) -> Option<&'a str> {
    let names = listing.lines().filter_map(|line| line.split('/').nth(5));
    let plain = |name: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
        name.starts_with(prefix) && name.chars().all(allowed)
    };
    names.filter(plain).max()
}

/// Appends an archive with this program to a RAM disk: the kernel unpacks one after the other, and
/// the later `/init` is the one.
fn append_ourselves(ramdisk: &Path) -> io::Result<()> {
    let mut archive = Cpio(fs::read(ramdisk)?);
    archive.pad();
    archive.add("bench", FOLDER, &[]);
    archive.add("init", FILE, INIT.as_bytes());
    archive.add("bench/mallee", FILE, &fs::read("/proc/self/exe")?);
    for library in libraries(&fs::read_to_string("/proc/self/maps")?) {
        let name = library.file_name().unwrap_or_default().to_string_lossy();
        let name = if name.starts_with("ld-") {
            "ld.so"
        } else {
            &*name
        };
        archive.add(&format!("bench/{name}"), FILE, &fs::read(&library)?);
    }
    archive.add("TRAILER!!!", 0, &[]);
    fs::File::create(ramdisk)?.write_all(&archive.0)
}

/// The shared libraries that a process has mapped, its loader among them.
fn libraries(maps: &str) -> BTreeSet<PathBuf> {
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let is_library = |path: &&str| path.starts_with('/') && path.contains(".so");
    mapped.filter(is_library).map(PathBuf::from).collect()
}

/// An archive as the kernel reads it: cpio's `newc`.
struct Cpio(Vec<u8>);

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let number = self.0.len();
        let (bytes, name_bytes) = (content.len(), name.len() + 1);
        let header = format!(
            "070701{number:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{bytes:08x}{0:08x}{0:08x}\
             {0:08x}{0:08x}{name_bytes:08x}{0:08x}{name}\0",
            0, 1
        );
        self.0.extend_from_slice(header.as_bytes());
        self.pad();
        self.0.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_taken_and_no_name_that_is_a_command() {
        let listing = "/12/100644/0/0/vmlinuz-6.1.0-9/10/\n/13/100644/0/0/vmlinuz-6.1.0-41/10/\n\
                       /14/100644/0/0/vmlinuz-z;rm x/10/\n/2/040755/0/0/grub//\n";
        assert_eq!(newest(listing, "vmlinuz"), Some("vmlinuz-6.1.0-9"));
        assert_eq!(newest(listing, "initrd"), None);
    }

    #[test]
    fn this_process_has_a_loader_and_a_c_library() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let found = libraries(&maps);
        let has = |part: &str| {
            found
                .iter()
                .any(|path| path.to_string_lossy().contains(part))
        };
        assert!(has("/ld-") && has("/libc.so"), "{found:?}");
    }
}
