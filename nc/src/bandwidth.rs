//! How much of this node's network images may take: what comes from Walrus and from other nodes, and
//! what goes to other nodes and, in bundles, to Walrus. So that a storm of launches of what is in no
//! cache leaves room for the guests that run.
//!
//! The decision is a [`Bucket`], which knows no clock; a [`Direction`] keeps it and waits. There is one
//! for each direction, for a link carries both at once.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

/// What may come at once after a pause: less than anybody at the other end of a link notices.
const BURST: Duration = Duration::from_millis(100);
/// The least that may be set, in MiB in a second: the blocks that a node asks for ahead, 16 MiB, then
/// come within the time that it waits for one.
pub const MIB_PER_S_MIN: u32 = 4;
/// The part of its link's speed that images get where nothing is set: with 8 tenths a launch takes a
/// quarter longer, and who was there before still has the speed of a fifth of the link.
const SHARE: (u64, u64) = (8, 10);

/// A token bucket. Whoever takes is told how long to wait, so that what was taken in any stretch of
/// time is at most the stretch's share and one burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    bytes_per_s: u64,
    /// All that was taken is paid for at this time; before `now` the bucket fills.
    paid_at: Duration,
}

impl Bucket {
    /// Full; lets so many bytes pass in a second. 0 counts as 1.
    pub const fn new(bytes_per_s: u64) -> Self {
        let bytes_per_s = if bytes_per_s == 0 { 1 } else { bytes_per_s };
        Self {
            bytes_per_s,
            paid_at: Duration::ZERO,
        }
    }

    /// Takes so many bytes; the answer is how long to wait from `now`, a time that never goes back.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        self.paid_at = self.paid_after(now, bytes);
        self.paid_at.saturating_sub(now)
    }

    /// Takes them only if the wait is no longer than that.
    pub fn take_within(
        &mut self,
        now: Duration,
        bytes: u64,
        patience: Duration,
    ) -> Option<Duration> {
        let wait = self.paid_after(now, bytes).saturating_sub(now);
        (wait <= patience).then(|| self.take(now, bytes))
    }

    fn paid_after(&self, now: Duration, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let costs = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = self.paid_at.max(now.saturating_sub(BURST));
        from.saturating_add(costs)
    }
}

/// What passes in one direction. Cheap to clone; clones share.
#[derive(Debug, Clone, Default)]
pub struct Direction(Option<Arc<Paced>>);

#[derive(Debug)]
struct Paced {
    begun: Instant,
    bucket: Mutex<Bucket>,
}

impl Paced {
    fn with<T>(&self, look: impl FnOnce(&mut Bucket, Duration) -> T) -> T {
        let mut bucket = self.bucket.lock().expect("no one panics holding it");
        // Read under the lock, so that it never goes back.
        look(&mut bucket, BURST + self.begun.elapsed())
    }
}

impl Direction {
    fn of(bytes_per_s: Option<u64>) -> Self {
        let paced = |bytes_per_s| {
            Arc::new(Paced {
                begun: Instant::now(),
                bucket: Mutex::new(Bucket::new(bytes_per_s)),
            })
        };
        Self(bytes_per_s.map(paced))
    }

    /// Returns when so many bytes may have passed.
    pub async fn pass(&self, bytes: usize) {
        if let Some(paced) = &self.0 {
            let wait = paced.with(|bucket, now| bucket.take(now, bytes as u64));
            sleep(wait).await;
        }
    }

    /// The same, but false, at once, if that took longer than `patience`.
    pub async fn pass_within(&self, bytes: usize, patience: Duration) -> bool {
        let Some(paced) = &self.0 else { return true };
        let taken = paced.with(|bucket, now| bucket.take_within(now, bytes as u64, patience));
        match taken {
            Some(wait) => {
                sleep(wait).await;
                true
            }
            None => false,
        }
    }
}

async fn sleep(wait: Duration) {
    // Below a timer's own grain there is nothing to wait for: the next one waits for both.
    if wait > Duration::ZERO {
        tokio::time::sleep(wait).await;
    }
}

/// Both directions of a node. Without a limit by default.
#[derive(Debug, Clone, Default)]
pub struct Bandwidth {
    /// From Walrus and from other nodes.
    pub incoming: Direction,
    /// To other nodes and to Walrus.
    pub outgoing: Direction,
}

impl Bandwidth {
    /// So many bytes in a second each way; none is no limit.
    pub fn of(bytes_per_s: Option<u64>) -> Self {
        Self {
            incoming: Direction::of(bytes_per_s),
            outgoing: Direction::of(bytes_per_s),
        }
    }

    /// As it is configured in MiB in a second, 0 for no limit; where nothing is configured, the share
    /// of the link that images and other nodes are reached through.
    pub fn configured(mib_per_s: Option<u32>, own_address: Option<Ipv4Addr>) -> Self {
        let limit = match mib_per_s {
            Some(0) => None,
            Some(mib) => Some(u64::from(mib) << 20),
            None => link_mbit_per_s(own_address).map(share),
        };
        match limit {
            Some(bytes_per_s) => tracing::info!(bytes_per_s, "what images may take of the network"),
            None => {
                tracing::info!("images may take all of the network: no limit, or no known speed")
            }
        }
        Self::of(limit)
    }
}

/// The share of a link of that speed, in bytes in a second.
const fn share(mbit_per_s: u64) -> u64 {
    mbit_per_s * 1_000_000 / 8 * SHARE.0 / SHARE.1
}

/// The speed of the link that has that address, else of the one that the default route leads
/// through. None where the kernel does not know it, as of virtual links.
fn link_mbit_per_s(own_address: Option<Ipv4Addr>) -> Option<u64> {
    let by_address = own_address.and_then(link_with);
    let routes = || daemon::files::read_text("/proc/net/route").ok();
    let link = by_address.or_else(|| default_link(&routes()?).map(str::to_owned))?;
    let speed = Path::new("/sys/class/net").join(link).join("speed");
    parse_speed(&daemon::files::read_text(speed).ok()?)
}

fn link_with(address: Ipv4Addr) -> Option<String> {
    let all = nix::ifaddrs::getifaddrs().ok()?;
    let mut those = all.filter(|link| {
        let of_link = link.address.as_ref().and_then(|of| of.as_sockaddr_in());
        of_link.is_some_and(|of| of.ip() == address)
    });
    those.next().map(|link| link.interface_name)
}

/// The link of the default route, in `/proc/net/route`: name, destination, gateway, flags, two counts,
/// metric, mask.
fn default_link(routes: &str) -> Option<&str> {
    let link = |line| {
        let words: Vec<&str> = str::split_whitespace(line).collect();
        let is_default = words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000");
        is_default.then(|| words[0])
    };
    routes.lines().skip(1).find_map(link)
}

/// Megabits in a second; -1 or nothing is an unknown speed.
fn parse_speed(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|speed| *speed > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let mut bucket = Bucket::new(10 * MIB);
        let now = ms(1000);
        assert_eq!(bucket.take(now, MIB), Duration::ZERO, "100 ms of it");
        assert_eq!(bucket.take(now, 10 * MIB), ms(1000));
        assert_eq!(bucket.take(now, 5 * MIB), ms(1500), "after those before it");
        assert_eq!(bucket.take(ms(2500), MIB), ms(100));
        assert_eq!(bucket.take(ms(9000), MIB), Duration::ZERO, "full again");
        assert_eq!(
            bucket.take(ms(9000), MIB),
            ms(100),
            "but not more than full"
        );
    }

    #[test]
    fn who_would_wait_too_long_takes_nothing() {
        let mut bucket = Bucket::new(MIB);
        let now = ms(1000);
        bucket.take(now, 2 * MIB);
        let before = bucket.clone();
        assert_eq!(bucket.take_within(now, 4 * MIB, ms(5000)), None);
        assert_eq!(bucket, before);
        assert_eq!(bucket.take_within(now, 4 * MIB, ms(6000)), Some(ms(5900)));
    }

    #[test]
    fn no_rate_and_no_size_is_too_odd() {
        let mut bucket = Bucket::new(0);
        assert!(bucket.take(ms(0), u64::MAX) > ms(1));
        assert!(bucket.take(ms(1), u64::MAX) > ms(1));
    }

    #[test]
    fn a_gigabit_leaves_a_fifth_to_others_and_an_unknown_speed_is_none() {
        assert_eq!(share(1000), 100_000_000);
        assert_eq!(parse_speed("10000\n"), Some(10_000));
        for unknown in ["-1\n", "0", "", "fast"] {
            assert_eq!(parse_speed(unknown), None);
        }
    }

    #[test]
    fn the_default_route_names_its_link() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                      docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                      eno1\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert_eq!(default_link(routes), Some("eno1"));
        assert_eq!(default_link("Iface Destination\n"), None);
        assert_eq!(default_link(""), None);
    }

    #[test]
    fn this_host_has_a_loopback_whose_speed_nobody_knows() {
        assert_eq!(link_with(Ipv4Addr::LOCALHOST).as_deref(), Some("lo"));
        assert_eq!(link_mbit_per_s(Some(Ipv4Addr::LOCALHOST)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_pass_share_the_direction_and_the_other_one_is_free() {
        let bandwidth = Bandwidth::of(Some(10 * MIB));
        let begun = Instant::now();
        let pass = |mib: usize| {
            let incoming = bandwidth.incoming.clone();
            async move { incoming.pass(mib << 20).await }
        };
        tokio::join!(pass(5), pass(5), pass(11));
        assert_eq!(begun.elapsed().as_millis() / 10, 200, "21 MiB less a burst");
        assert!(
            bandwidth
                .outgoing
                .pass_within(1 << 20, Duration::ZERO)
                .await
        );
        assert!(!bandwidth.outgoing.pass_within(1 << 20, ms(50)).await);
        let unlimited = Bandwidth::default();
        let before = begun.elapsed();
        unlimited.incoming.pass(usize::MAX).await;
        assert_eq!(begun.elapsed(), before);
    }

    proptest! {
        /// What passes in any stretch of time is no more than its share and a burst.
        #[test]
        fn no_stretch_of_time_sees_more_than_its_share(
            takes in proptest::collection::vec((0u64..400, 0u64..3_000_000), 1..60),
            bytes_per_s in 100_000u64..20_000_000,
        ) {
            let mut bucket = Bucket::new(bytes_per_s);
            let mut now = BURST;
            // When each has passed, and how much.
            let mut passed = Vec::new();
            for (pause_ms, bytes) in takes {
                now += ms(pause_ms);
                passed.push((now + bucket.take(now, bytes), bytes));
            }
            for (first, (from, _)) in passed.iter().enumerate() {
                let mut bytes = 0;
                for (to, more) in &passed[first + 1..] {
                    bytes += more;
                    let stretch = (*to - *from + BURST).as_secs_f64();
                    let most = stretch * bytes_per_s as f64 + 1.0;
                    prop_assert!(bytes as f64 <= most, "{bytes} of {most}");
                }
            }
        }
    }
}
