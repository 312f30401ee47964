//! One seed for everything random in a test, so that a failure can be had again.

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Randomness of tests: fast, and the same for the same seed.
pub type TestRng = SmallRng;

/// The environment variable that fixes the seed.
pub const SEED: &str = "MALLEE_SIM_SEED";
/// The environment variable that says how many steps a simulation takes.
pub const STEPS: &str = "MALLEE_SIM_STEPS";

/// A random stream of that seed.
pub fn rng(seed: u64) -> TestRng {
    SmallRng::seed_from_u64(seed)
}

/// The seed asked for in the environment, if one is.
pub fn asked() -> Option<u64> {
    number(SEED)
}

/// The steps asked for in the environment, or the usual ones.
pub fn steps(usual: u64) -> u64 {
    number(STEPS).unwrap_or(usual)
}

#[allow(clippy::disallowed_methods)] // a test has no configuration to read
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// True so many times in a thousand.
pub fn per_mille(rng: &mut impl Rng, chance: u32) -> bool {
    below(rng, 1000) < u64::from(chance)
}

/// A number below a bound; 0 if the bound is 0.
pub fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    if bound == 0 {
        0
    } else {
        rng.next_u64() % bound
    }
}

/// One of a list, if there is one.
pub fn one_of<'a, T>(rng: &mut impl Rng, list: &'a [T]) -> Option<&'a T> {
    let at = below(rng, list.len() as u64);
    list.get(usize::try_from(at).ok()?)
}

/// Prints how to have a failure again when the test that holds it panics.
#[derive(Debug)]
pub struct Told {
    /// The seed.
    pub seed: u64,
    /// The steps.
    pub steps: u64,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { seed, steps } = self;
            eprintln!("\nto have this again: {SEED}={seed} {STEPS}={steps}\n");
        }
    }
}
