//! What is promised, and whether it was kept in this run.

use crate::{Row, limits::Limits, load::Figures};

/// One promise.
pub(crate) struct Target {
    what: &'static str,
    measured: f64,
    bound: f64,
    at_least: bool,
}

impl Target {
    pub(crate) fn at_least(what: &'static str, measured: f64, bound: f64) -> Self {
        Self {
            what,
            measured,
            bound,
            at_least: true,
        }
    }

    pub(crate) fn at_most(what: &'static str, measured: f64, bound: f64) -> Self {
        Self {
            what,
            measured,
            bound,
            at_least: false,
        }
    }

    fn met(&self) -> bool {
        if self.at_least {
            self.measured >= self.bound
        } else {
            self.measured <= self.bound
        }
    }
}

/// The promises about loads that were measured.
pub(crate) fn of_loads(rows: &[Row], limits: &Limits) -> Vec<Target> {
    let figures = |case: &str, peer: &str| -> Option<Figures> {
        let row = rows.iter().find(|row| row.case.name == case)?;
        Some(row.best.iter().find(|(name, _)| *name == peer)?.1)
    };
    let mut targets = Vec::new();
    if let Some(get) = figures("GET 4 KiB, 1 connection", "walrus") {
        targets.push(Target::at_most(
            "GET 4 KiB, 1 connection: p50 ms",
            get.p50_ms,
            0.25,
        ));
    }
    if let Some(get) = figures("GET 4 KiB, 16 connections", "walrus") {
        targets.push(Target::at_least(
            "GET 4 KiB, 16 connections: /s",
            get.per_s,
            10_000.0,
        ));
        targets.push(Target::at_most(
            "GET 4 KiB: us of processor",
            get.cpu_us,
            100.0,
        ));
    }
    let put = "PUT 4 KiB, 16 connections";
    if let Some(ours) = figures(put, "walrus") {
        targets.push(Target::at_most(
            "PUT 4 KiB: us of processor",
            ours.cpu_us,
            400.0,
        ));
        if let Some(garage) = figures(put, "garage") {
            let ratio = ours.per_s / garage.per_s;
            targets.push(Target::at_least(
                "PUT 4 KiB, 16 connections: times Garage with fsync",
                ratio,
                10.0,
            ));
        }
        if let Some(radosgw) = figures(put, "radosgw") {
            targets.push(Target::at_least(
                "PUT 4 KiB, 16 connections: times radosgw in memory",
                ours.per_s / radosgw.per_s,
                3.0,
            ));
        }
    }
    if let (Some(ours), Some(nginx)) = (
        figures("PUT 64 MiB, 1 connection", "walrus"),
        figures("PUT 64 MiB, 1 connection", "nginx"),
    ) {
        let least = limits.md5_mb_s.min(limits.disk_mb_s).min(nginx.mb_s);
        targets.push(Target::at_least(
            "PUT 64 MiB, 1 connection: of min(disk, MD5, nginx)",
            ours.mb_s / least,
            0.8,
        ));
    }
    if let (Some(ours), Some(nginx)) = (
        figures("GET 64 MiB, 1 connection", "walrus"),
        figures("GET 64 MiB, 1 connection", "nginx"),
    ) {
        targets.push(Target::at_least(
            "GET 64 MiB, 1 connection: of nginx",
            ours.mb_s / nginx.mb_s,
            0.7,
        ));
    }
    targets
}

pub(crate) fn print(targets: &[Target]) {
    println!("\ntargets:");
    for target in targets {
        let word = if target.met() { "met   " } else { "MISSED" };
        let sign = if target.at_least { ">=" } else { "<=" };
        println!(
            "  {word} {:58} {:10.2} {sign} {}",
            target.what, target.measured, target.bound
        );
    }
    let met = targets.iter().filter(|target| target.met()).count();
    println!("{met} of {} targets met", targets.len());
}
