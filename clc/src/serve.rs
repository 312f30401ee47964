//! The daemon: opens what `init` made, starts listeners and tasks.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use control::{Cloud, cloud};
use daemon::{
    BoxError, Context,
    public::certificate::Certificate,
    tls::{Asking, Authority, Issue, Tls, renew},
};
use image::keys::CloudKey;
use store::Db;
use tokio::net::TcpListener;

use crate::{
    Clc, MIGRATIONS, Parts,
    config::Config,
    control::Service,
    edge,
    identity::Identity,
    init::Places,
    peers::{OverTls, Peers},
    rows::{cloud as cloud_row, network, services},
    seal::Seal,
    tasks,
};

/// What keeps the daemon from starting before anything is tried.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("{0} does not exist: run `mallee-clc init` first")]
    NoDatabase(PathBuf),
    #[error("`mallee-clc init` was cut off: run it again")]
    HalfMade,
}

/// Starts everything on the context; returns once it is up.
pub async fn serve(config: Config, context: Context) -> Result<(), BoxError> {
    let database = context.ready.condition("database");
    let places = Places::of(&config);
    let authority = Arc::new(Authority::load(places.ca())?);
    let tls = Tls::open(places.tls())?;
    let clc = open(config, &context, &places, &tls).await?;
    database.met();

    serve_control(&clc, &context, &tls, &authority).await?;
    keep_certificate(&context, &tls, authority.clone());
    tasks::start(&clc, &context);
    serve_api(&clc, &context, &tls, authority).await
}

async fn open(
    config: Config,
    context: &Context,
    places: &Places,
    tls: &Tls,
) -> Result<Arc<Clc>, BoxError> {
    if !places.database().exists() {
        return Err(NotReady::NoDatabase(places.database()).into());
    }
    let db = Db::open(places.database(), MIGRATIONS)?;
    let seal = Seal::load_or_make(&places.seal_key())?;
    let cloud = db.read(cloud_row::find).await?.ok_or(NotReady::HalfMade)?;
    // Documents are made of the configuration, too, which may be another than before.
    db.write(network::bump_all).await?;
    let peers = Peers::new(OverTls(tls.clone()));
    peers.set(&db.read(services::list).await?);
    let epoch = format!("{:016x}", rand::random::<u64>());
    Ok(Clc::new(Parts {
        region: cloud.region,
        identity: Identity::load(&db, seal.clone(), epoch).await?,
        image_key: CloudKey::from_pem(&daemon::files::read_text(places.image_key())?)?,
        image_certificate_pem: daemon::files::read_text(places.image_certificate())?,
        clock: context.clock.clone(),
        seed: None,
        config,
        db,
        peers,
        seal,
    }))
}

async fn serve_control(
    clc: &Arc<Clc>,
    context: &Context,
    tls: &Tls,
    authority: &Arc<Authority>,
) -> Result<(), BoxError> {
    let listen = clc.config.control.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("control.listen {listen}: {error}"))?;
    let service: Arc<dyn Cloud> = Service::new(clc.clone(), authority.clone());
    let routes = cloud::routes(service);
    let serving = control::server::serve(
        listener,
        tls.server_config(),
        routes,
        context.cancel.clone(),
    );
    context.spawn("control", async move {
        serving.await;
        Ok::<(), BoxError>(())
    });
    tracing::info!(%listen, "serving the cloud's daemons");
    Ok(())
}

/// We sign for ourselves.
fn keep_certificate(context: &Context, tls: &Tls, authority: Arc<Authority>) {
    let (renewed, clock, cancel) = (tls.clone(), context.clock.clone(), context.cancel.clone());
    let (peer, now) = (tls.peer().clone(), clock.clone());
    context.spawn("renew_certificate", async move {
        let ask = move |request: String| -> Asking {
            let issue = Issue::daemon(peer.clone(), now.now_ms());
            let signed = authority.sign(&request, &issue);
            Box::pin(async move { Ok(signed?) })
        };
        renew(renewed, clock, cancel, ask).await;
        Ok::<(), BoxError>(())
    });
}

async fn serve_api(
    clc: &Arc<Clc>,
    context: &Context,
    tls: &Tls,
    authority: Arc<Authority>,
) -> Result<(), BoxError> {
    let config = &clc.config;
    let source = config
        .tls
        .source(Places::of(config).public(), config.public_names());
    let certificate = Certificate::open(source)?;
    let settings = edge::Settings {
        listen: config.api.listen,
        plain: config.tls.http,
        tls: Some(certificate.server_config()?),
        walrus: config.s3_base()?,
        walrus_tls: tls.client_config(),
        version_2: config.api.signature_v2,
    };
    let listen = edge::serve(context, clc.clone(), settings)
        .await
        .map_err(|error| format!("api.listen {}: {error}", config.api.listen))?;
    tracing::info!(%listen, url = config.public_url(), "serving EC2, STS and S3");
    keep_public_certificate(context, certificate, authority);
    Ok(())
}

/// We sign this one for ourselves as well.
fn keep_public_certificate(context: &Context, certificate: Certificate, authority: Arc<Authority>) {
    let (clock, cancel) = (context.clock.clone(), context.cancel.clone());
    context.spawn("public_certificate", async move {
        let now = clock.clone();
        let ask = move |request: String, names: BTreeSet<String>| -> Asking {
            let signed = authority.sign_public(&request, &names, now.now_ms());
            Box::pin(async move { Ok(signed?) })
        };
        certificate.keep(clock, cancel, ask).await;
        Ok::<(), BoxError>(())
    });
}
