//! From a configuration to a running daemon, and joining a cloud.

use std::sync::Arc;

use control::{
    Client, Member, Node, Role,
    cluster::RosterNode,
    newcomer::{self, Plan},
};
use daemon::Context;

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

    let routes = control::cluster::routes(Arc::new(cc));
    let served = member.serve(&context, config.control.listen, routes).await;
    served.map_err(anyhow::Error::from_boxed)
}

/// Joins a cloud with a token from `mallee-clc token --role cc`, after a look at the host.
pub async fn join(config: Config, token: &str) -> anyhow::Result<()> {
    let plan = Plan {
        role: Role::Cc,
        state: config.state_dir,
        serves: config.control.listen,
        listens: vec![config.admin.listen],
        pool: None,
        node: None,
    };
    Ok(newcomer::become_member(&plan, token).await?)
}
