//! Walrus beside its peers and its limits, in one run: Garage with its fsync options on, Ceph's radosgw
//! over a store in memory, nginx as what the loopback can do, one core's MD5 and the disk as what the machine can do. The last lines
//! are the targets, each met or missed. `benches/run walrus` runs it; `--help` says what it takes.
//!
//! Client and servers share the machine, so wall times wander with what else it does. Each peer gets
//! each load in turns and the best of its rounds counts; processor time per request barely wanders.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench fails by panicking, and starts servers as people do"
)]

#[allow(dead_code, reason = "the bench needs one Walrus and one key")]
#[path = "../../tests/it/daemon_process.rs"]
mod daemon_process;
mod limits;
mod load;
mod million;
#[allow(dead_code, reason = "the bench keeps all bodies in a folder")]
#[path = "../../tests/it/other_store.rs"]
mod other_store;
mod peers;
#[allow(dead_code, reason = "the bench only asks whether Walrus is ready")]
#[path = "../../tests/it/s3_client.rs"]
mod s3_client;
mod targets;

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use crate::{
    load::{Case, Figures},
    peers::Peer,
    targets::Target,
};

/// Measures Walrus beside Garage, radosgw, nginx, MD5 and the disk
#[derive(Parser)]
struct Given {
    /// How often each peer gets each load; the best counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long one load lasts
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Where the servers keep their data: a folder on the disk to be measured
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// Garage's binary
    #[arg(long, default_value = "/opt/garage/bin/garage")]
    garage: PathBuf,
    /// Only loads whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// Cargo says this to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// One load with each peer's best round.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) best: Vec<(&'static str, Figures)>,
}

fn main() {
    let given = Given::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::Builder::new()
        .prefix("walrus-bench-")
        .tempdir_in(&given.folder)
        .unwrap();
    load::raise_open_files();

    println!("limits of this machine:");
    let limits = limits::measure(folder.path());
    println!(
        "  MD5 {:.0} MB/s a core   disk {:.0} MB/s (64 MiB and fdatasync)   fdatasync of 4 KiB p50 {:.2} ms",
        limits.md5_mb_s, limits.disk_mb_s, limits.sync_ms
    );

    let mut peers = vec![Peer::walrus(&runtime, folder.path())];
    peers.extend(Peer::nginx(folder.path()));
    peers.extend(Peer::garage(folder.path(), &given.garage));
    peers.extend(Peer::radosgw(folder.path()));

    let mut rows = Vec::new();
    for case in load::cases() {
        if case.name.contains(&given.only) {
            rows.push(measure(&given, &peers, case));
        }
    }
    let walrus = &peers[0];
    let mut targets = targets::of_loads(&rows, &limits);
    let most = walrus.most_memory_mib();
    targets.push(Target::at_most("memory throughout, MiB", most, 100.0));
    if given.only.is_empty() {
        let (alone, loaded) = walrus.syncs_per_put();
        targets.push(Target::at_most("syncs of a small PUT alone", alone, 2.0));
        targets.push(Target::at_most(
            "syncs of a small PUT, 16 connections",
            loaded,
            0.5,
        ));
        let held = walrus.memory_with_connections_mib(10_000);
        targets.push(Target::at_most(
            "memory with 10,000 connections, MiB",
            held,
            256.0,
        ));
    }
    drop(peers);
    if given.only.is_empty() || "million".contains(&given.only) {
        targets.push(million::page(&runtime, folder.path()));
    }
    targets::print(&targets);
}

fn measure(given: &Given, peers: &[Peer], case: Case) -> Row {
    println!("\n{}", case.name);
    let mut best: Vec<(&'static str, Figures)> = Vec::new();
    let peers: Vec<&Peer> = peers.iter().filter(|peer| peer.takes(&case)).collect();
    for round in 0..given.rounds.max(1) {
        for turn in 0..peers.len() {
            let peer = peers[(turn + round as usize) % peers.len()];
            let figures = peer.take(&case, Duration::from_secs_f64(given.seconds));
            match best.iter_mut().find(|(name, _)| *name == peer.name) {
                Some((_, known)) => *known = known.better_of(figures),
                None => best.push((peer.name, figures)),
            }
        }
    }
    let nginx = best
        .iter()
        .find(|(name, _)| *name == "nginx")
        .map(|(_, f)| f.per_s);
    for (name, figures) in &best {
        println!("  {name:7} {}", figures.line(nginx));
    }
    Row { case, best }
}
