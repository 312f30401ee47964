//! From a configuration to a running daemon, and joining a cloud.

use std::sync::Arc;

use control::{
    Member, Role,
    newcomer::{self, Plan},
};
use daemon::Context;
use store::Db;

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

    let routes = control::storage::routes(Arc::new(sc));
    let served = member.serve(&context, config.control.listen, routes).await;
    served.map_err(anyhow::Error::from_boxed)
}

/// Joins a cloud with a token from `mallee-clc token --role sc`, after a look at the host.
pub async fn join(config: Config, token: &str) -> anyhow::Result<()> {
    let plan = Plan {
        role: Role::Sc,
        pool: Some(config.pool_dir()),
        state: config.state_dir,
        serves: config.control.listen,
        listens: vec![config.admin.listen],
        node: None,
    };
    Ok(newcomer::become_member(&plan, token).await?)
}
