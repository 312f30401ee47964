//! From a configuration to a running daemon, and joining a cloud.

use std::sync::Arc;

use anyhow::Context as _;
use control::{
    Client, Member, Node, Role,
    cluster::RosterNode,
    join::{self, JoinToken, Newcomer},
};
use daemon::{BoxError, Context};
use tokio::net::TcpListener;

use crate::{Cc, Dial, config::Config, ledger::SqliteLedger, relay::Timing};

/// Nodes over mutual TLS, each proven by its own name.
struct OverTls(Arc<rustls::ClientConfig>);

impl Dial for OverTls {
    fn node(&self, line: &RosterNode) -> Arc<dyn Node> {
        let name = line.node.as_str();
        Arc::new(Client::new(&self.0, line.address, Role::Nc, Some(name)))
    }
}

/// Opens what the daemon needs and starts its tasks on the context.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let member = Member::open(&context.tls_dir(), Role::Cc)?;
    let ledger = SqliteLedger::open(context.state.join("cc.db"))?;
    let dial = OverTls(member.tls.client_config());
    let cc = Cc::start(
        &context,
        config.limits(),
        Timing::default(),
        Arc::new(ledger),
        Arc::new(dial),
    )
    .await?;

    let listener = TcpListener::bind(config.control.listen)
        .await
        .with_context(|| format!("control.listen {}", config.control.listen))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, peer = %member.peer(), "serving the Cloud Controller");
    let (tls, stop) = (member.tls.server_config(), context.cancel.clone());
    context.spawn("control", async move {
        control::server::serve(listener, tls, control::cluster::routes(Arc::new(cc)), stop).await;
        Ok::<(), BoxError>(())
    });
    member.keep_fresh(&context, Some(address));
    Ok(())
}

/// Joins a cloud with a token from `mallee-clc token --role cc`.
pub async fn join(config: Config, token: &str) -> anyhow::Result<()> {
    let token: JoinToken = token.parse()?;
    let newcomer = Newcomer {
        role: Role::Cc,
        address: Some(config.control.listen),
        hostname: hostname(),
    };
    // Better now, by name, than at the first start.
    drop(
        TcpListener::bind(config.control.listen)
            .await
            .with_context(|| format!("control.listen {} cannot be used", config.control.listen))?,
    );
    let identity = join::join(config.state_dir.join("tls"), &token, newcomer).await?;
    println!("joined as {}", identity.peer);
    Ok(())
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
