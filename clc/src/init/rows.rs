//! The rows of a new cloud, in one transaction.

use daemon::BoxError;
use ipnet::Ipv4Net;
use sha1::{Digest, Sha1};
use store::{Db, Error, Tx};
use types::{AccountId, Timestamp};

use super::Credentials;
use crate::{
    accounts::Making,
    config::Config,
    identity::ADMIN,
    rows::{
        cloud::{self, CloudRow},
        identity,
    },
    seal::Seal,
};

/// The name of the cloud's own account, which reads bundles for the nodes.
const SYSTEM_NAME: &str = "(mallee)system";

/// Fills an empty database; leaves one that is filled as it is.
pub(super) async fn fill(
    db: &Db,
    config: &Config,
    credentials: &Credentials,
    seal: Seal,
    now: Timestamp,
) -> Result<(), BoxError> {
    let (credentials, vpc) = (credentials.clone(), config.network.default_vpc);
    db.write(move |tx| {
        if let Some(cloud) = cloud::find(tx)? {
            return check_same(&cloud, &credentials);
        }
        let row = CloudRow {
            region: credentials.region.clone(),
            first_zone: credentials.zone.clone(),
        };
        cloud::insert(tx, &row, now)?;
        Making::of(AccountId::system(), SYSTEM_NAME).write(tx, &seal, now)?;
        first_account(tx, &seal, &credentials, vpc, now)
    })
    .await?;
    Ok(())
}

/// A database of another cloud in this folder is somebody's mistake, and not to be made worse.
fn check_same(cloud: &CloudRow, credentials: &Credentials) -> Result<(), Error> {
    if cloud.region == credentials.region {
        return Ok(());
    }
    Err(Error::Unreadable {
        row: "cloud".to_owned(),
        reason: format!(
            "it says {}, the credentials {}",
            cloud.region, credentials.region
        ),
    })
}

fn first_account(
    tx: &Tx,
    seal: &Seal,
    credentials: &Credentials,
    vpc: Ipv4Net,
    now: Timestamp,
) -> Result<(), Error> {
    let making = Making {
        account: credentials.account_id.clone(),
        name: credentials.account_name.clone(),
        access_key: credentials.access_key_id.clone(),
        secret: credentials.secret_access_key.clone(),
    };
    making.write_with_network(tx, seal, vpc, now)?;
    let pem = &credentials.user_certificate_pem;
    identity::insert_certificate(tx, &certificate_id(pem), &making.account, ADMIN, pem, now)
}

/// SHA-1 of the certificate, as EC2 numbers signing certificates.
fn certificate_id(pem: &str) -> String {
    hex::encode(Sha1::digest(pem.as_bytes()))
}
