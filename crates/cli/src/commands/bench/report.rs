//! What was measured, as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::{log::Counts, place::Place};
use crate::output::table;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) place: Place,
    pub(super) kernel: String,
    pub(super) qemu: String,
    pub(super) accelerator: &'static str,
    pub(super) cache: String,
    pub(super) write_mib: u64,
    pub(super) writes: u64,
    pub(super) host: Vec<HostRow>,
    pub(super) disks: Vec<DiskRow>,
    /// Disks that cannot be made here.
    pub(super) not_here: Vec<String>,
}

/// A file of the host.
#[derive(Debug, Serialize)]
pub(super) struct HostRow {
    pub(super) what: &'static str,
    #[serde(flatten)]
    pub(super) speed: Speed,
}

/// A disk of the guest.
#[derive(Debug, Serialize)]
pub(super) struct DiskRow {
    pub(super) disk: &'static str,
    #[serde(flatten)]
    pub(super) speed: Speed,
    /// Of the speed, to the raw disk's.
    pub(super) first_ratio: f64,
    pub(super) over_ratio: f64,
    /// Of what reaches the host, to the raw disk's: a first write to what the image leaves empty, a
    /// first write over its data, and a second write.
    pub(super) empty: Ratios,
    pub(super) data: Ratios,
    pub(super) again: Ratios,
}

/// MB/s: a million bytes a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Speed {
    pub(super) first_mb_s: f64,
    pub(super) over_mb_s: f64,
}

/// Writes and flushes of the host for one of the guest's, divided by the same on a raw disk.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ratios {
    pub(super) writes: f64,
    pub(super) flushes: f64,
}

impl Ratios {
    /// Of what was counted to what was counted on raw.
    pub(super) fn of(counted: Counts, raw: Counts) -> Self {
        let ratio = |counted: u64, raw: u64| counted as f64 / raw.max(1) as f64;
        Self {
            writes: ratio(counted.writes, raw.writes),
            flushes: ratio(counted.flushes, raw.flushes),
        }
    }

    fn cell(self) -> String {
        format!("{:.2} {:.2}", self.writes, self.flushes)
    }
}

impl Report {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Place {
            folder,
            file_system,
            mount_options,
            device,
            device_is,
        } = &self.place;
        let mut out = format!(
            "{folder}: {file_system} ({mount_options})\non {device} ({device_is})\n\
             kernel {}, {}, {}, cache={}, {} writes of {} MiB, a sync after each\n\n",
            self.kernel, self.qemu, self.accelerator, self.cache, self.writes, self.write_mib
        );
        let mut rows: Vec<[String; 8]> = Vec::new();
        for HostRow { what, speed } in &self.host {
            let none = String::new;
            let (first, over) = (mb_s(speed.first_mb_s), mb_s(speed.over_mb_s));
            rows.push([
                (*what).to_owned(),
                first,
                none(),
                over,
                none(),
                none(),
                none(),
                none(),
            ]);
        }
        for row in &self.disks {
            rows.push([
                format!("guest: {}", row.disk),
                mb_s(row.speed.first_mb_s),
                format!("{:.2}", row.first_ratio),
                mb_s(row.speed.over_mb_s),
                format!("{:.2}", row.over_ratio),
                row.empty.cell(),
                row.data.cell(),
                row.again.cell(),
            ]);
        }
        let heads = [
            "WRITTEN TO",
            "MB/S",
            "RATIO",
            "AGAIN",
            "RATIO",
            "W+F EMPTY",
            "W+F DATA",
            "W+F AGAIN",
        ];
        out += &table(heads, &rows);
        for kind in &self.not_here {
            let _ = writeln!(out, "not here: {kind}, for the file system makes no clones");
        }
        out += "\nRATIO: speed to the raw disk's. W+F: writes and flushes of the host for one write and\n\
                sync of the guest, to the raw disk's: into what the image leaves empty, over the\n\
                image's data, and a second time. Speeds wander with what else the host does; W+F do not.\n";
        out
    }
}

fn mb_s(speed: f64) -> String {
    format!("{speed:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_raw_disk_of_the_same_guest() {
        let counts = |writes, flushes| Counts { writes, flushes };
        let ratios = Ratios::of(counts(387, 259), counts(128, 128));
        assert_eq!(ratios.cell(), "3.02 2.02");
        assert_eq!(Ratios::of(counts(0, 0), counts(0, 0)).cell(), "0.00 0.00");
    }
}
