//! Walrus from outside: the engine against a model, the daemon over HTTP with signed requests,
//! killed at any moment, and with real clients.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the daemon and its clients as people do"
)]

/// Two tests of a campaign, which is given a seed and how many steps it takes: a sample, which every run
/// makes, with a seed that may be asked for, and all of it, which `--long` makes.
macro_rules! campaign {
    ($campaign:ident: $sample:ident($seed:literal, $steps:literal), $long:ident($long_seed:literal, $all:literal)) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $sample() {
            let seed = testkit::seed::asked().unwrap_or($seed);
            $campaign(seed, testkit::seed::steps($steps)).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $long() {
            if crate::is_long() {
                $campaign($long_seed, $all).await;
            }
        }
    };
}

mod access_log;
mod any_bit;
mod clients;
mod corpus;
mod crash;
mod daemon_process;
mod full_disk;
mod hostile;
mod http_api;
mod http_auth;
mod http_encryption;
mod http_forms;
mod http_multipart;
mod http_radosgw;
mod http_website;
mod import;
mod model;
mod network_folder;
mod notifications;
mod other_store;
mod power_cut;
mod quotas;
mod radosgw;
mod remote_blobs;
mod revocation;
mod rot;
mod s3_client;
mod samples;
mod versions;
mod workload;

/// Whether the long campaigns run: `tests/run --long` sets it.
fn is_long() -> bool {
    let is_asked = std::env::var("MALLEE_LONG").is_ok();
    if !is_asked {
        println!("SKIPPED: the long campaigns run with MALLEE_LONG=1");
    }
    is_asked
}
