//! A daemon as a member of its cloud: who it is, its TLS, and the way to the CLC.

use std::{net::SocketAddr, path::Path};

use daemon::{
    Context, files,
    tls::{self, Peer, Role, Tls},
};

use crate::{
    Client, Cloud,
    cloud::RenewAsk,
    join::{MEMBERSHIP, Membership},
    rpc::Call,
};

/// What goes wrong when a daemon looks for its cloud.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not joined.
    #[error(
        "not joined yet: run `mallee-{0} join --token TOKEN` with a token from `mallee-clc token --role {0}`"
    )]
    NotJoined(&'static str),
    /// The file that says where the CLC is cannot be understood.
    #[error("{0} is damaged: remove it and STATE/tls, and join again")]
    Damaged(String),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Files.
    #[error(transparent)]
    File(#[from] files::Error),
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
    /// Reads what `join` wrote to the state folder. `role` is only for the advice.
    pub fn open(state: &Path, role: Role) -> Result<Self, Error> {
        let file = state.join(MEMBERSHIP);
        let tls_dir = state.join("tls");
        if !file.exists() || !tls::Identity::exists(&tls_dir) {
            return Err(Error::NotJoined(role.as_str()));
        }
        let membership: Membership = serde_json::from_slice(&files::read(&file)?)
            .map_err(|_| Error::Damaged(file.display().to_string()))?;
        let tls = Tls::open(&tls_dir)?;
        let cloud = Client::new(&tls.client_config(), membership.clc, Role::Clc, None);
        Ok(Self { tls, cloud })
    }

    /// Who it is.
    pub fn peer(&self) -> &Peer {
        self.tls.peer()
    }

    /// Keeps the certificate fresh for the life of the daemon, and tells the CLC where it serves.
    pub fn keep_fresh(&self, context: &Context, address: Option<SocketAddr>) {
        let (tls, cloud) = (self.tls.clone(), self.cloud.clone());
        let (clock, cancel) = (context.clock.clone(), context.cancel.clone());
        context.spawn("renew", async move {
            let ask = move |csr_pem| -> tls::Asking {
                let (cloud, ask) = (cloud.clone(), RenewAsk { csr_pem, address });
                Box::pin(async move {
                    Ok(cloud.renew(&Call::new("renew"), ask).await?.certificate_pem)
                })
            };
            tls::renew(tls, clock, cancel, ask).await;
            Ok::<(), std::convert::Infallible>(())
        });
    }
}
