//! Walrus: the object store, for people and for the cloud itself.
//!
//! ```text
//! bytes → server → api: s3::Request → auth → authorise → operation → engine
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the file `walrus.toml` |
//! | [`server`] | the S3 listener and the limits of its connections |
//! | [`api`] | every operation of S3 that is served, a file per noun |
//! | [`auth`], [`authorise`] | who asks, and whether it may |
//! | [`client`] | from which address, through the front door or directly |
//! | [`directory`], [`identity`] | accounts, users and keys; following the CLC's feed, kept sealed |
//! | [`body`], [`digests`], [`intake`] | a body comes in: verified, digested, written once |
//! | [`lanes`] | how many bodies flow at once, and in what pieces |
//! | [`access_log`] | lines of requests, delivered into the buckets that their owners named |
//! | [`notify`] | events, told to the destinations that the administrator named |
//! | [`lifecycle`] | what buckets delete by themselves |
//! | [`seal`] | bodies encrypted at rest |
//! | [`outflow`], [`answer`] | an object goes out; documents, errors, headers |
//! | [`engine`] | what is kept, and how it survives |
//! | [`objects`], [`links`] | what the cloud itself asks, and keeps of its own |
//! | `quotas` | how much accounts and buckets may hold, asked and set by the cloud |
//! | [`metrics`], [`upkeep`] | what is counted; what runs beside the requests |
//!
//! Walrus authenticates S3 requests itself, whoever passed them on. It decides policies by
//! `iam::decide` and keeps no identity of its own: it works from the last that the CLC told.

pub mod access_log;
pub mod answer;
pub mod api;
pub mod auth;
pub mod authorise;
pub mod body;
pub mod client;
pub mod config;
mod crc32c;
pub mod digests;
pub mod directory;
pub mod engine;
pub mod identity;
pub mod intake;
pub mod lanes;
pub mod lifecycle;
mod links;
pub mod metrics;
pub mod notify;
pub mod objects;
pub mod outflow;
mod quotas;
pub mod seal;
pub mod server;
pub mod upkeep;

use std::{collections::BTreeSet, sync::Arc};

use control::{Cloud, Member, Role, cloud::PublicCertificateAsk, rpc::Call};
use daemon::{BoxError, Context, public::certificate::Certificate, tls::Asking};
use s3::address::Domains;
use sigv4::Rules;
use tokio::net::TcpListener;

use crate::{
    access_log::{AccessLog, Lines, RuleLog},
    api::Api,
    config::Config,
    engine::Engine,
    identity::Identity,
    metrics::Metrics,
    notify::{Destinations, destination::Destination},
};

/// Opens everything and starts the daemon's tasks.
pub async fn run(config: Config, context: Context) -> Result<(), BoxError> {
    // First of all, so that nobody takes us for ready while the engine recovers.
    let serving = context.ready.condition("serving");
    let told = context.ready.condition("identities");
    let member = Member::open(&context.tls_dir(), Role::Walrus)?;
    let identity = Identity::open(&config.state_dir, context.clock.clone(), config.trusted())?;

    let (places, tuning) = (config.places(), config.tuning());
    daemon::files::make_dir(&places.folder)?;
    let engine = tokio::task::spawn_blocking(move || Engine::open(&places, tuning)).await??;
    // A store that holds something has had its key: a new one could open nothing of it.
    let is_new = !engine.view(|view| view.has_buckets()).await?;
    let master_key = seal::MasterKey::open(&config.state_dir, is_new)?;
    let master_key = master_key.with_names(config.s3.kms_keys.clone());
    let metrics = Metrics::new(&context.metrics);
    let destinations = config.notification.iter().map(Destination::open);
    let destinations: Vec<_> = destinations.collect::<Result<_, _>>()?;
    let (access_log, lines) = AccessLog::new(metrics.clone());
    access_log.sources.load(&engine).await?;
    let api = Arc::new(Api {
        engine: engine.clone(),
        identity: identity.clone(),
        clock: context.clock.clone(),
        domains: Domains::new(config.s3.domains.iter().cloned()),
        website_domains: Domains::new(config.s3.website_domains.iter().cloned()),
        region: config.s3.region.clone(),
        rules: Rules {
            version_2: config.s3.signature_v2,
            ..Rules::S3
        },
        metrics: metrics.clone(),
        master_key,
        access_log,
        destinations: Destinations(destinations.into()),
    });

    let s3 = listen("s3.listen", config.s3.listen).await?;
    let cloud = listen("control.listen", config.control.listen).await?;
    tracing::info!(s3 = %s3.local_addr()?, control = %cloud.local_addr()?, "serving");
    let certificate = Certificate::open(config.public_certificate())?;
    let shown = certificate.server_config()?;
    let stop = context.cancel.clone();
    let serving_s3 = server::serve(s3, api.clone(), config.tls.http, Some(shown), stop);
    context.spawn("s3", serving_s3);
    let asking = ask_for_certificate(member.cloud.clone());
    let keeping = certificate.keep(context.clock.clone(), context.cancel.clone(), asking);
    context.spawn("public_certificate", async move {
        keeping.await;
        Ok::<(), BoxError>(())
    });
    let routes = control::objects::routes(Arc::new(objects::Service(api.clone())));
    let (tls, stop) = (member.tls.server_config(), context.cancel.clone());
    context.spawn("control", async move {
        control::server::serve(cloud, tls, routes, stop).await;
        Ok::<(), BoxError>(())
    });

    tell_and_log(&api, lines, &config, &context);

    member.keep_fresh(&context, Some(config.control_address()));
    serving.met();
    if identity.is_known() {
        told.met();
    }
    context.spawn(
        "identity",
        identity.clone().follow(member.cloud, context.clone(), told),
    );
    look_after(&api, &config, &context);
    Ok(())
}

/// What clients never wait for: events on their way to whom they are told, and lines of access logs.
fn tell_and_log(api: &Arc<Api>, lines: Lines, config: &Config, context: &Context) {
    for destination in api.destinations.0.iter().cloned() {
        let telling = notify::follow(api.clone(), destination, context.clone());
        context.spawn("notify", telling);
    }
    context.spawn("notify_sweep", notify::sweep(api.clone(), context.clone()));
    let (logging, spool) = (api.clone(), config.state_dir.join("access-log"));
    let (pace, following) = (config.access_log(), context.clone());
    context.spawn("access_log", async move {
        access_log::run(logging, lines, &spool, pace, following).await
    });
}

/// What is done to what is kept without anybody asking.
fn look_after(api: &Api, config: &Config, context: &Context) {
    let (engine, metrics) = (&api.engine, &api.metrics);
    if let Some(pace) = config.scrub() {
        let scrub = upkeep::scrub(engine.clone(), pace, metrics.clone(), context.clone());
        context.spawn("scrub", scrub);
    }
    if engine.has_other_store() {
        let there = context.ready.condition("blobs");
        let following = upkeep::follow_store(engine.clone(), there, context.clone());
        context.spawn("blobs", following);
    }
    let log = RuleLog::new(api.access_log.clone(), api.identity.clone());
    let following = lifecycle::follow(engine.clone(), log, config.day(), context.clone());
    context.spawn("lifecycle", following);
    context.spawn(
        "engine",
        upkeep::watch(
            engine.clone(),
            api.identity.clone(),
            metrics.clone(),
            context.clone(),
        ),
    );
}

/// Clients trust the cloud's authority; the CLC has its key.
fn ask_for_certificate(cloud: control::Client) -> impl Fn(String, BTreeSet<String>) -> Asking {
    move |csr_pem, names| {
        let cloud = cloud.clone();
        Box::pin(async move {
            let call = Call::new("public-certificate");
            let ask = PublicCertificateAsk { csr_pem, names };
            let signed = cloud.public_certificate(&call, ask).await?;
            Ok(signed.certificate_pem)
        })
    }
}

async fn listen(key: &str, address: std::net::SocketAddr) -> Result<TcpListener, BoxError> {
    Ok(TcpListener::bind(address)
        .await
        .map_err(|error| format!("{key} {address}: {error}"))?)
}
