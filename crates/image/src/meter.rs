//! What each stage of a pipeline has done so far: bytes, when it began and last moved, and the
//! processor time that it took. Written by the stages, read by anyone at any time; nothing waits.
//!
//! From it come percent and speed for people, the figures of the benches, and the answer to where
//! the seconds of a slow transfer went.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The stages of one run, in the order in which the bytes pass them.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    stages: Vec<StageMeter>,
}

/// One stage.
#[derive(Debug)]
struct StageMeter {
    name: &'static str,
    bytes: AtomicU64,
    first_us: AtomicU64,
    last_us: AtomicU64,
    cpu_us: AtomicU64,
}

/// What a stage has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Its name.
    pub name: &'static str,
    /// Bytes that have left it.
    pub bytes: u64,
    /// When its first bytes left it, from the beginning of the run.
    pub first: Duration,
    /// When its last ones did.
    pub last: Duration,
    /// Processor time; known when the stage has ended.
    pub cpu: Duration,
}

impl Meter {
    /// Begins now.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let stage = |name: &&'static str| StageMeter {
            name,
            bytes: AtomicU64::new(0),
            first_us: AtomicU64::new(u64::MAX),
            last_us: AtomicU64::new(0),
            cpu_us: AtomicU64::new(0),
        };
        Self {
            begun: Instant::now(),
            stages: names.iter().map(stage).collect(),
        }
    }

    /// Another so many bytes have left a stage.
    pub(crate) fn count(&self, stage: usize, bytes: u64) {
        let now_us = micros(self.begun.elapsed());
        let stage = &self.stages[stage];
        stage.bytes.fetch_add(bytes, Relaxed);
        stage.first_us.fetch_min(now_us, Relaxed);
        stage.last_us.fetch_max(now_us, Relaxed);
    }

    /// Runs the work of a stage on this thread, and adds what processor time it took.
    pub(crate) fn on_this_thread<T>(&self, stage: usize, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        let done = work();
        let took = thread_cpu().saturating_sub(before);
        self.stages[stage].cpu_us.fetch_add(micros(took), Relaxed);
        done
    }

    /// Bytes that have left a stage so far.
    pub(crate) fn bytes(&self, stage: usize) -> u64 {
        self.stages[stage].bytes.load(Relaxed)
    }

    /// What each stage has done so far.
    pub fn readings(&self) -> Vec<Reading> {
        let reading = |stage: &StageMeter| {
            let last_us = stage.last_us.load(Relaxed);
            Reading {
                name: stage.name,
                bytes: stage.bytes.load(Relaxed),
                first: Duration::from_micros(stage.first_us.load(Relaxed).min(last_us)),
                last: Duration::from_micros(last_us),
                cpu: Duration::from_micros(stage.cpu_us.load(Relaxed)),
            }
        };
        self.stages.iter().map(reading).collect()
    }
}

impl std::fmt::Display for Meter {
    /// One line for a log: `gunzip 4.29 GB, 0.1 to 6.2 s, 3.1 s CPU; ...`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (nth, reading) in self.readings().iter().enumerate() {
            let between = if nth == 0 { "" } else { "; " };
            let [first, last, cpu] =
                [reading.first, reading.last, reading.cpu].map(|time| time.as_secs_f64());
            let megabytes = reading.bytes as f64 / 1e6;
            let name = reading.name;
            write!(
                f,
                "{between}{name} {megabytes:.1} MB, {first:.2} to {last:.2} s, {cpu:.2} s CPU"
            )?;
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_works_has_bytes_times_and_cpu_and_one_that_does_not_has_none() {
        let meter = Meter::new(&["work", "idle"]);
        let sum = meter.on_this_thread(0, || {
            let until = Instant::now() + Duration::from_millis(20);
            let mut sum = 0_u64;
            while Instant::now() < until {
                sum = std::hint::black_box(sum + 1);
            }
            sum
        });
        meter.count(0, sum);
        meter.count(0, 1);
        let [work, idle] = meter.readings()[..] else {
            panic!("two stages");
        };
        assert_eq!(work.bytes, sum + 1);
        assert!(work.cpu >= Duration::from_millis(1) && work.first <= work.last);
        assert_eq!(
            (idle.bytes, idle.cpu, idle.last),
            (0, Duration::ZERO, Duration::ZERO)
        );
        assert!(meter.to_string().contains("idle 0.0 MB"));
    }
}
