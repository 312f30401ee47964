//! The way to the cloud controller's control port. Who we are is our certificate; that it is the
//! cloud controller is its own, whatever its address.

use std::{net::SocketAddr, path::PathBuf};

use control::{Client, Cloud, Role, cloud::RenewAsk, rpc::Call};
use daemon::tls::Tls;

use crate::{Failure, args, environment};

const DEFAULT_FOLDER: &str = "/var/lib/mallee/clc/admin";
const DEFAULT_ADDRESS: &str = "127.0.0.1:8777";

/// The cloud controller, as an administrator reaches it.
pub struct Admin {
    /// Its calls.
    pub cloud: Client,
    /// Our certificate.
    pub tls: Tls,
}

impl Admin {
    /// Reads the certificate; connects at the first call.
    pub async fn open(given: &args::Admin) -> Result<Self, Failure> {
        let folder = folder(given);
        let tls = Tls::open(&folder).map_err(|error| {
            let folder = folder.display();
            Failure::Usage(format!(
                "no administrator's certificate in {folder}: {}\n\
                 Name its folder by --admin or MALLEE_ADMIN; `mallee-clc init` makes it.",
                daemon::chain(&error)
            ))
        })?;
        let address = address(given, &folder).await?;
        let cloud = Client::new(&tls.client_config(), address, Role::Clc, None);
        let admin = Self { cloud, tls };
        admin.keep_fresh().await;
        Ok(admin)
    }

    /// Gets the next certificate once two thirds of this one's life are over. What fails here fails
    /// again in the call that follows, and is told there.
    async fn keep_fresh(&self) {
        if crate::public::now_ms() < self.tls.renew_at_ms() {
            return;
        }
        let Ok(csr_pem) = self.tls.renewal_request() else {
            return;
        };
        let ask = RenewAsk {
            csr_pem,
            address: None,
        };
        if let Ok(joined) = self.cloud.renew(&self.call(), ask).await
            && let Err(error) = self.tls.renewed(&joined.certificate_pem)
        {
            eprintln!("mallee: the certificate was renewed but not kept: {error}");
        }
    }

    /// One call, under an id of its own.
    pub fn call(&self) -> Call {
        let (pid, now_ms) = (std::process::id(), crate::public::now_ms());
        Call::new(format!("mallee-{pid:x}-{now_ms:x}"))
    }
}

fn folder(given: &args::Admin) -> PathBuf {
    let named = given
        .admin
        .clone()
        .or_else(|| environment::path("MALLEE_ADMIN"));
    named.unwrap_or_else(|| DEFAULT_FOLDER.into())
}

async fn address(given: &args::Admin, folder: &std::path::Path) -> Result<SocketAddr, Failure> {
    let in_folder = || {
        control::join::clc_address(folder)
            .ok()
            .map(|address| address.to_string())
    };
    let text = given
        .address
        .clone()
        .or_else(|| environment::get("MALLEE_CONTROL"))
        .or_else(in_folder)
        .unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
    let text = text.trim();
    let found = tokio::net::lookup_host(text).await;
    let no_address = |cause: String| Failure::Usage(format!("{text:?} is no address: {cause}"));
    let mut found = found.map_err(|error| no_address(error.to_string()))?;
    found
        .next()
        .ok_or_else(|| no_address("it stands for none".into()))
}
