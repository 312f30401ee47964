//! A daemon as a member of its cloud: who it is, its TLS, and the way to the CLC.

use std::{net::SocketAddr, path::Path};

use axum::Router;
use daemon::{
    BoxError, Context,
    tls::{self, Identity, Peer, Role, Tls},
};

use tokio::net::TcpListener;

use crate::{
    Client,
    join::{self, JoinError},
    server,
};

/// What goes wrong when a daemon looks for its cloud.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not joined.
    #[error(
        "not joined yet: run `mallee-{0} join --token TOKEN` with a token from `mallee-clc token --role {0}`"
    )]
    NotJoined(Role),
    /// What `join` wrote cannot be read.
    #[error(transparent)]
    Joined(#[from] JoinError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// A daemon that has joined. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its TLS, renewed in place.
    pub tls: Tls,
    /// The CLC.
    pub cloud: Client,
}

impl Member {
    /// Reads what [`join::join`] wrote to `STATE/tls`. The role is for the advice if it did not.
    pub fn open(tls_dir: &Path, role: Role) -> Result<Self, Error> {
        if !Identity::exists(tls_dir) {
            return Err(Error::NotJoined(role));
        }
        let tls = Tls::open(tls_dir)?;
        let clc = join::clc_address(tls_dir)?;
        let cloud = Client::new(&tls.client_config(), clc, Role::Clc, None);
        Ok(Self { tls, cloud })
    }

    /// Who it is.
    pub fn peer(&self) -> &Peer {
        self.tls.peer()
    }

    /// Serves the cloud at that address for the life of the daemon, and keeps the certificate
    /// fresh. The error names the address.
    pub async fn serve(
        &self,
        context: &Context,
        listen: SocketAddr,
        routes: Router,
    ) -> Result<(), BoxError> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| format!("control.listen {listen}: {error}"))?;
        let address = listener.local_addr()?;
        tracing::info!(%address, peer = %self.peer(), "serving the cloud");
        let (tls, stop) = (self.tls.server_config(), context.cancel.clone());
        context.spawn("control", async move {
            server::serve(listener, tls, routes, stop).await;
            Ok::<(), BoxError>(())
        });
        self.keep_fresh(
            context,
            Some(join::reachable(address, self.cloud.address())),
        );
        Ok(())
    }

    /// Keeps the certificate fresh for the life of the daemon; each renewal says where it serves.
    pub fn keep_fresh(&self, context: &Context, address: Option<SocketAddr>) {
        join::keep_certificate(context, &self.tls, self.cloud.clone(), address);
    }
}
