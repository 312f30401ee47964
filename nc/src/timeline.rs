//! What happened to an instance on this node, moment by moment, for `mallee explain`.

use control::timeline::Moment;
use tokio::time::Instant;

/// A launch has about ten moments; a guest that is rebooted daily for a month has these.
const MOMENTS_MAX: usize = 64;

/// The moments of one instance, counted from when this node first heard of it.
#[derive(Debug)]
pub struct Timeline {
    moments: Vec<Moment>,
    begun: Instant,
    /// Milliseconds that had passed before `begun`, in earlier processes.
    before_ms: u64,
}

impl Timeline {
    /// Begins now.
    pub fn begin() -> Self {
        Self {
            moments: Vec::new(),
            begun: Instant::now(),
            before_ms: 0,
        }
    }

    /// Goes on after a restart: so long after it began, by the wall clock, which may have been set.
    pub fn resume(moments: Vec<Moment>, age_ms: i64) -> Self {
        let last = moments.last().map_or(0, |moment| moment.elapsed_ms);
        let before_ms = u64::try_from(age_ms).unwrap_or(0).max(last);
        Self {
            moments,
            begun: Instant::now(),
            before_ms,
        }
    }

    /// The moments so far.
    pub fn moments(&self) -> Vec<Moment> {
        self.moments.clone()
    }

    /// Adds a moment.
    pub fn note(&mut self, step: &str, detail: impl Into<String>) {
        if self.moments.len() >= MOMENTS_MAX {
            return;
        }
        let run = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moments.push(Moment {
            by: "nc".to_owned(),
            step: step.to_owned(),
            elapsed_ms: self.before_ms.saturating_add(run),
            detail: detail.into(),
        });
    }

    /// Adds a moment if it is the first of its step. Says whether it was.
    pub fn note_first(&mut self, step: &str, detail: impl Into<String>) -> bool {
        let is_first = !self.moments.iter().any(|moment| moment.step == step);
        if is_first {
            self.note(step, detail);
        }
        is_first
    }

    /// Says more of a step that goes on: how many percent by now. The time is when it began.
    pub fn update(&mut self, step: &str, detail: impl Into<String>) {
        match self
            .moments
            .iter_mut()
            .rev()
            .find(|moment| moment.step == step)
        {
            Some(moment) => moment.detail = detail.into(),
            None => self.note(step, detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moments_count_from_the_first_word_also_over_a_restart_and_a_clock_set_back() {
        let mut timeline = Timeline::begin();
        timeline.note("received", "");
        tokio::time::advance(Duration::from_millis(40)).await;
        timeline.note("started", "");
        assert_eq!(timeline.moments()[1].elapsed_ms, 40);

        for (age_ms, expect) in [(1_000, 1_000), (-5_000, 40)] {
            let mut resumed = Timeline::resume(timeline.moments(), age_ms);
            resumed.note("adopted", "");
            assert_eq!(resumed.moments()[2].elapsed_ms, expect);
        }
    }

    #[tokio::test]
    async fn a_timeline_never_grows_without_end_and_progress_is_one_moment() {
        let mut timeline = Timeline::begin();
        for percent in 0..100 {
            timeline.update("image", format!("{percent} %"));
        }
        assert_eq!(timeline.moments().len(), 1);
        assert!(!timeline.note_first("image", ""));
        for _ in 0..1000 {
            timeline.note("reset", "");
        }
        assert_eq!(timeline.moments().len(), MOMENTS_MAX);
    }
}
