//! Who writes: on the host a function, in the guest this program as the first and only process.
//! Each write is followed by a sync, as in the measurement that this repeats.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount, umount},
    sys::termios::{self, SetArg},
};

use super::job::{Job, On, STEP};

/// Where the guest is spoken to. The first port is the kernel's console.
const PORT: &str = "/dev/ttyS1";
const MOUNT_POINT: &str = "/measured";
/// What O_DIRECT wants of a buffer's place.
const ALIGNMENT: usize = 4096;

/// Writes `count` times `size` bytes from `offset` on, each with a sync after it.
pub(super) fn write(
    file: &File,
    offset: u64,
    size: usize,
    count: u64,
    mut step: impl FnMut(),
) -> io::Result<Duration> {
    // Nothing that a file system or QEMU could take for zeros.
    let buffer = vec![0x5a; size + ALIGNMENT];
    let data = &buffer[buffer.as_ptr().align_offset(ALIGNMENT)..][..size];
    let begun = Instant::now();
    for n in 0..count {
        file.write_all_at(data, offset + n * size as u64)?;
        file.sync_all()?;
        if (n + 1).is_multiple_of(STEP) {
            step();
        }
    }
    Ok(begun.elapsed())
}

/// A file of the host, written as QEMU writes an uncached disk, or as a program writes a file.
pub(super) fn open(path: &Path, direct: bool) -> io::Result<File> {
    let flags = if direct {
        OFlag::O_DIRECT
    } else {
        OFlag::empty()
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).custom_flags(flags.bits());
    options.open(path)
}

/// The guest: takes jobs by its second serial port, for ever.
pub(super) fn serve() -> io::Result<()> {
    let port = OpenOptions::new().read(true).write(true).open(PORT)?;
    let mut raw = termios::tcgetattr(&port)?;
    termios::cfmakeraw(&mut raw);
    termios::tcsetattr(&port, SetArg::TCSANOW, &raw)?;
    std::fs::create_dir_all(MOUNT_POINT)?;

    let mut say = port.try_clone()?;
    writeln!(say, "ready")?;
    for line in BufReader::new(port).lines() {
        let outcome = match line?.parse::<Job>() {
            Ok(job) => perform(&job, || _ = writeln!(say, "step")),
            Err(()) => Err(io::Error::other("no such job")),
        };
        match outcome {
            Ok(took) => writeln!(say, "took {}", took.as_nanos())?,
            Err(error) => writeln!(say, "failed {error}")?,
        }
    }
    Ok(())
}

fn perform(job: &Job, step: impl FnMut()) -> io::Result<Duration> {
    let size = usize::try_from(job.size).map_err(io::Error::other)?;
    let device = format!("/dev/vd{}", char::from(b'a' + job.disk));
    match job.on {
        On::Disk { offset } => {
            // Past the guest's own cache, which cuts writes as it likes: these are counted.
            let disk = open(Path::new(&device), true)?;
            write(&disk, offset, size, job.count, step)
        }
        On::File => {
            let (none, options) = (None::<&str>, MsFlags::MS_NOATIME);
            mount(Some(&*device), MOUNT_POINT, Some("ext4"), options, none)?;
            let file = open(&Path::new(MOUNT_POINT).join("file"), false)?;
            let took = write(&file, 0, size, job.count, step);
            drop(file);
            umount(MOUNT_POINT)?;
            took
        }
    }
}
