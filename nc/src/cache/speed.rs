//! How far a fill is and how fast, for people: in the state reason, in `mallee explain`, in the log.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use image::{meter::Meter, unbundle};
use tokio::time::{Instant, sleep};

use super::Told;

/// How often the meter is read: as often as anyone looks.
const LOOK: Duration = Duration::from_millis(250);
/// The stretch that a speed is taken over: a single slow part does not make it jump.
const WINDOW: Duration = Duration::from_secs(3);
/// How often the log says it.
const LOG: Duration = Duration::from_secs(5);

/// How far a fill is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fetched {
    /// Of the bundle, checked and decrypted.
    percent: u8,
    /// Bytes of the bundle in a second, lately; 0 where that is not known.
    bytes_per_s: u64,
}

impl From<Fetched> for Told {
    fn from(fetched: Fetched) -> Self {
        Self {
            doing: String::new(),
            percent: Some(fetched.percent),
            bytes_per_s: fetched.bytes_per_s,
        }
    }
}

/// Hears how far a fill is.
pub type Hear = Arc<dyn Fn(Told) + Send + Sync>;

/// Tells how far a run is until it is dropped.
pub(super) async fn tell(image: &str, meter: &Meter, bundled_bytes: u64, hear: &Hear) {
    let mut speed = Speed::default();
    let mut logged = Instant::now();
    loop {
        let now = Instant::now();
        let fetched = speed.at(now, unbundle::done_bytes(meter), bundled_bytes);
        hear(fetched.into());
        if now - logged >= LOG {
            logged = now;
            let Fetched {
                percent,
                bytes_per_s,
            } = fetched;
            tracing::info!(image, percent, bytes_per_s, "fetching an image");
        }
        sleep(LOOK).await;
    }
}

/// The readings of the last [`WINDOW`].
#[derive(Default)]
struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    fn at(&mut self, now: Instant, done: u64, all: u64) -> Fetched {
        self.0.push_back((now, done));
        // One reading at or before the window's beginning stays, to measure from.
        while self.0.len() > 2 && now - self.0[1].0 >= WINDOW {
            self.0.pop_front();
        }
        let (since, before) = self.0[0];
        let millis = (now - since).as_millis().max(1);
        let bytes_per_s = u128::from(done - before) * 1000 / millis;
        Fetched {
            percent: (done.min(all) * 100 / all.max(1)) as u8,
            bytes_per_s: u64::try_from(bytes_per_s).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_that_of_the_last_seconds_and_the_percent_that_of_all() {
        let (begun, mut speed) = (Instant::now(), Speed::default());
        let mut at = |seconds, done| speed.at(begun + Duration::from_secs(seconds), done, 1000);
        let read = |fetched: Fetched| (fetched.percent, fetched.bytes_per_s);
        assert_eq!(read(at(0, 0)), (0, 0));
        assert_eq!(read(at(1, 100)), (10, 100));
        for second in 2..6 {
            at(second, 100);
        }
        assert_eq!(read(at(6, 100)), (10, 0), "it has come to a stand");
        assert_eq!(read(at(9, 1000)), (100, 300));
        let nothing = Speed::default().at(begun, 0, 0);
        assert_eq!(read(nothing), (0, 0));
    }
}
