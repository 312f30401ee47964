//! `mallee bench disk`: what a virtual disk costs, after the measurement that is older than this
//! cloud: a gigabyte in writes of one megabyte, each synced, first into new space and then over it,
//! on the host and in a guest, on each kind of disk.
//!
//! It runs QEMU by itself, needs no cloud, and removes what it wrote.

mod disks;
mod guest;
mod job;
mod log;
mod machine;
mod place;
mod report;
mod writer;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use daemon::run::Tool;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    Failure,
    args::{Bench, BenchDisk, DiskKind},
    output::{self, Output},
};
use guest::Guest;
use job::{Job, On};
use log::Counts;
use machine::{Drive, Machine};
use place::Place;
use report::{DiskRow, HostRow, Ratios, Report, Speed};

/// Writes that are counted: their number changes nothing but the second decimal.
const COUNTED_MAX: u64 = 128;
/// What an ext4 file system needs beside a file that fills it.
const FILE_SYSTEM_BYTES: u64 = 64 << 20;
const BAR: &str = "{msg:28} {bar:30} {pos:>6} of {len} MiB {eta:>5}";

/// Runs a bench.
pub async fn run(output: Output, ask: Bench) -> Result<(), Failure> {
    match ask {
        Bench::Writer => {
            let failed = |error| Failure::failed("the guest's writer", error);
            tokio::task::block_in_place(writer::serve).map_err(failed)
        }
        Bench::Disk(ask) => {
            let report = Disks::prepare(&ask).await?.measure().await?;
            output.print(&report, || report.text())
        }
    }
}

/// A comparison under way.
struct Disks<'a> {
    ask: &'a BenchDisk,
    kinds: Vec<DiskKind>,
    not_here: Vec<String>,
    guest: Guest,
    scratch: tempfile::TempDir,
    bar: ProgressBar,
}

impl<'a> Disks<'a> {
    async fn prepare(ask: &'a BenchDisk) -> Result<Self, Failure> {
        let begun = tempfile::Builder::new()
            .prefix(".mallee-bench-")
            .tempdir_in(&ask.dir);
        let scratch = begun.map_err(|error| failed_at(&ask.dir, error))?;
        let guest = Guest::from_image(&ask.guest, scratch.path()).await?;
        let mut wanted = ask.disks.clone();
        if wanted.is_empty() {
            wanted.extend(DiskKind::ALL);
        }
        wanted.push(DiskKind::Raw);
        wanted.sort_unstable();
        wanted.dedup();
        let mut new = Self {
            ask,
            kinds: Vec::new(),
            not_here: Vec::new(),
            guest,
            scratch,
            bar: ProgressBar::hidden(),
        };
        new.sort_out(wanted).await?;
        new.check_room()?;
        let mib = ask.size
            * (2 * ask.count * (2 + new.kinds.len() as u64)
                + 3 * new.counted() * new.kinds.len() as u64);
        let style =
            ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        new.bar = ProgressBar::new(mib).with_style(style);
        Ok(new)
    }

    /// Keeps the kinds that can be made here.
    async fn sort_out(&mut self, wanted: Vec<DiskKind>) -> Result<(), Failure> {
        let (image, disk) = (self.path("probe.image"), self.path("probe"));
        let probe = disks::create(&image).and_then(|file| file.set_len(1 << 20));
        probe.map_err(|error| failed_at(&image, error))?;
        for kind in wanted {
            if kind.make(&image, &disk).await? {
                self.kinds.push(kind);
            } else {
                self.not_here.push(kind.title().to_owned());
            }
        }
        Ok(())
    }

    /// Each disk is written once whole, beside its image; a full disk would be found out too late.
    fn check_room(&self) -> Result<(), Failure> {
        let kinds = self.kinds.len() as u64;
        let timed = kinds * (self.ask.count * self.write_bytes() + FILE_SYSTEM_BYTES);
        // Two parts, and the log of three runs.
        let counted = (kinds * 5 + 1) * self.counted() * self.write_bytes();
        let needed = timed.max(counted);
        let free = nix::sys::statvfs::statvfs(self.scratch.path())
            .map_err(|error| failed_at(&self.ask.dir, error))?;
        let free = free.blocks_available() * free.fragment_size();
        if free < needed {
            let (needed, free) = (output::bytes(needed), output::bytes(free));
            return Err(failed_at(
                &self.ask.dir,
                format!("needs {needed}, has {free} (fewer writes: --count; fewer disks: --disk)"),
            ));
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn counted(&self) -> u64 {
        self.ask.count.min(COUNTED_MAX)
    }

    fn write_bytes(&self) -> u64 {
        self.ask.size << 20
    }

    async fn measure(self) -> Result<Report, Failure> {
        let host = self.on_the_host()?;
        let counts = self.counts().await?;
        let speeds = self.speeds().await?;
        self.bar.finish_and_clear();

        let (raw, raw_counts) = (speeds[0], counts[0]);
        let rows = self.kinds.iter().zip(speeds).zip(counts);
        let disks = rows.map(|((kind, speed), counts)| DiskRow {
            disk: kind.title(),
            speed,
            first_ratio: speed.first_mb_s / raw.first_mb_s,
            over_ratio: speed.over_mb_s / raw.over_mb_s,
            empty: Ratios::of(counts[0], raw_counts[0]),
            again: Ratios::of(counts[1], raw_counts[1]),
            data: Ratios::of(counts[2], raw_counts[2]),
        });
        Ok(Report {
            place: Place::of(self.scratch.path().parent().unwrap_or(Path::new("/")))?,
            kernel: daemon::files::read_text("/proc/sys/kernel/osrelease")
                .map_or_else(|_| String::new(), |text| text.trim().to_owned()),
            qemu: version(&self.ask.emulator).await,
            accelerator: if daemon::examine::host_has_kvm() {
                "kvm"
            } else {
                "tcg"
            },
            cache: format!("{:?}", self.ask.cache).to_lowercase(),
            write_mib: self.ask.size,
            writes: self.ask.count,
            host,
            disks: disks.collect(),
            not_here: self.not_here.clone(),
        })
    }

    /// A program's file, and a raw image as QEMU writes it.
    fn on_the_host(&self) -> Result<Vec<HostRow>, Failure> {
        let mut rows = Vec::new();
        for (what, direct) in [("host: a file", false), ("host: a raw image", true)] {
            self.bar.set_message(what);
            let path = self.path("host");
            let size = usize::try_from(self.write_bytes()).map_err(|e| failed_at(&path, e))?;
            let write = || {
                let file = writer::open(&path, direct)?;
                writer::write(&file, 0, size, self.ask.count, || self.step())
            };
            let timed = || tokio::task::block_in_place(write).map_err(|e| failed_at(&path, e));
            let speed = self.speed(timed()?, timed()?);
            std::fs::remove_file(&path).map_err(|error| failed_at(&path, error))?;
            rows.push(HostRow { what, speed });
        }
        Ok(rows)
    }

    fn step(&self) {
        self.bar.inc(job::STEP * self.ask.size);
    }

    fn speed(&self, first: Duration, over: Duration) -> Speed {
        let bytes = (self.write_bytes() * self.ask.count) as f64;
        let mb_s = |took: Duration| bytes / 1e6 / took.as_secs_f64();
        Speed {
            first_mb_s: mb_s(first),
            over_mb_s: mb_s(over),
        }
    }

    /// Writes and flushes of each disk: into what the image leaves empty, there again, and over the
    /// image's data.
    async fn counts(&self) -> Result<Vec<[Counts; 3]>, Failure> {
        let bytes = self.counted() * self.write_bytes();
        let image = self.path("counted.image");
        write_data(&image, bytes, bytes).map_err(|error| failed_at(&image, error))?;
        let drives = self.drives(&image, true).await?;
        let machine = self.machine(&drives);
        let counted = machine.run(async |guest| {
            let mut all = Vec::new();
            for (disk, drive) in drives.iter().enumerate() {
                self.bar
                    .set_message(format!("counting: {}", self.kinds[disk].title()));
                let log = drive.log.as_deref().unwrap_or(&drive.file);
                let read = || log::read(log).map_err(|error| failed_at(log, error));
                let (mut counts, mut before) = ([Counts::default(); 3], read()?);
                for (counted, offset) in counts.iter_mut().zip([0, 0, bytes]) {
                    let on = On::Disk { offset };
                    guest
                        .write(self.job(disk, on, self.counted()), || self.step())
                        .await?;
                    let now = read()?;
                    *counted = now.since(before);
                    before = now;
                }
                all.push(counts);
            }
            Ok(all)
        });
        let counted = counted.await?;
        self.remove(&drives, &image)?;
        Ok(counted)
    }

    /// MB/s of each disk, on a file in a file system of the guest.
    async fn speeds(&self) -> Result<Vec<Speed>, Failure> {
        let image = self.path("timed.image");
        let bytes = self.ask.count * self.write_bytes();
        let size = (bytes + bytes / 8 + FILE_SYSTEM_BYTES).next_multiple_of(1 << 20);
        make_file_system(&image, size).await?;
        let drives = self.drives(&image, false).await?;
        let machine = self.machine(&drives);
        let timed = machine.run(async |guest| {
            let mut all = Vec::new();
            for disk in 0..drives.len() {
                self.bar.set_message(self.kinds[disk].title());
                let job = self.job(disk, On::File, self.ask.count);
                let first = guest.write(job, || self.step()).await?;
                let over = guest.write(job, || self.step()).await?;
                all.push(self.speed(first, over));
            }
            Ok(all)
        });
        let timed = timed.await?;
        self.remove(&drives, &image)?;
        Ok(timed)
    }

    fn machine<'m>(&'m self, drives: &'m [Drive]) -> Machine<'m> {
        Machine {
            emulator: &self.ask.emulator,
            guest: &self.guest,
            drives,
            cache: self.ask.cache,
            dir: self.scratch.path(),
        }
    }

    fn job(&self, disk: usize, on: On, count: u64) -> Job {
        Job {
            disk: u8::try_from(disk).expect("there are seven kinds"),
            on,
            size: self.write_bytes(),
            count,
        }
    }

    async fn drives(&self, image: &Path, logged: bool) -> Result<Vec<Drive>, Failure> {
        let mut drives = Vec::new();
        for (n, kind) in self.kinds.iter().enumerate() {
            let file = self.path(&format!("disk{n}"));
            kind.make(image, &file).await?;
            let log = self.path(&format!("log{n}"));
            if logged {
                disks::create(&log).map_err(|error| failed_at(&log, error))?;
            }
            drives.push(Drive {
                file,
                format: kind.format(),
                log: logged.then_some(log),
            });
        }
        Ok(drives)
    }

    fn remove(&self, drives: &[Drive], image: &Path) -> Result<(), Failure> {
        let files = drives
            .iter()
            .flat_map(|drive| [Some(&drive.file), drive.log.as_ref()]);
        for file in files.flatten().map(PathBuf::as_path).chain([image]) {
            std::fs::remove_file(file).map_err(|error| failed_at(file, error))?;
        }
        Ok(())
    }
}

/// An image whose first part is empty and whose second is data.
fn write_data(path: &Path, empty_bytes: u64, data_bytes: u64) -> std::io::Result<()> {
    let file = disks::create(path)?;
    let data = vec![0xa5; 1 << 20];
    for n in 0..data_bytes >> 20 {
        file.write_all_at(&data, empty_bytes + (n << 20))?;
    }
    file.sync_all()
}

/// An image that is a file system, with nothing left for the guest to initialise behind our back.
async fn make_file_system(path: &Path, bytes: u64) -> Result<(), Failure> {
    let made = disks::create(path).and_then(|file: File| file.set_len(bytes));
    made.map_err(|error| failed_at(path, error))?;
    let tool = Tool::new("mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        ])
        .arg(path);
    let made = tool.output().await;
    made.map(|_| ()).map_err(|error| failed_at(path, error))
}

async fn version(emulator: &Path) -> String {
    let said = Tool::new(emulator).arg("--version").text().await;
    let said = said.unwrap_or_default();
    let line = said.lines().next().unwrap_or_default();
    line.split(" (")
        .next()
        .unwrap_or_default()
        .replace(" emulator version", "")
}

fn failed_at(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::failed(path.display().to_string(), error)
}
