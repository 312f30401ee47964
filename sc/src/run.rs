//! From a configuration to a running daemon, and joining a cloud.

use std::sync::Arc;

use anyhow::Context as _;
use control::{
    Member, Role,
    join::{self, JoinToken, Newcomer},
};
use daemon::{BoxError, Context, files};
use store::Db;
use tokio::net::TcpListener;

use crate::{Sc, config::Config, pool::FilePool, rows::MIGRATIONS};

/// Opens what the daemon needs and starts its tasks on the context.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let member = Member::open(&context.tls_dir(), Role::Sc)?;
    let db = Db::open(context.state.join("sc.db"), MIGRATIONS)?;
    let pool = FilePool::open(config.pool_dir())?;
    let overcommit_percent = config.pool.overcommit_percent;
    let sc = Sc::start(&context, db, Arc::new(pool), overcommit_percent)
        .await
        .map_err(anyhow::Error::from_boxed)?;

    let listener = TcpListener::bind(config.control.listen)
        .await
        .with_context(|| format!("control.listen {}", config.control.listen))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, peer = %member.peer(), "serving the Cloud Controller");
    let (tls, stop) = (member.tls.server_config(), context.cancel.clone());
    context.spawn("control", async move {
        control::server::serve(listener, tls, control::storage::routes(Arc::new(sc)), stop).await;
        Ok::<(), BoxError>(())
    });
    member.keep_fresh(&context, Some(address));
    Ok(())
}

/// Joins a cloud with a token from `mallee-clc token --role sc`.
pub async fn join(config: Config, token: &str) -> anyhow::Result<()> {
    let token: JoinToken = token.parse()?;
    let newcomer = Newcomer {
        role: Role::Sc,
        address: Some(config.control.listen),
        hostname: hostname(),
    };
    // Better now, by name, than at the first start.
    drop(
        TcpListener::bind(config.control.listen)
            .await
            .with_context(|| format!("control.listen {} cannot be used", config.control.listen))?,
    );
    files::make_dir(&config.state_dir)?;
    FilePool::open(config.pool_dir())?;
    let identity = join::join(config.state_dir.join("tls"), &token, newcomer).await?;
    println!("joined as {}", identity.peer);
    Ok(())
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
