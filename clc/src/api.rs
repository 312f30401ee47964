//! The query services behind the edge: from an action's name and its parameters to the whole answer.
//!
//! ```text
//! call → table: decode → authorise → handler: check, record intent, wake → envelope
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | every action on one page: its handler, and the things that policies decide about |
//! | [`errors`] | from what went wrong inside to a code and a sentence |
//! | [`filters`], [`paging`], [`naming`] | `Filter.N`; `MaxResults`; things by id, all or none |
//! | [`idempotency`] | `ClientToken`: a repeated request gets the first one's answer |
//! | [`nothing`] | lists of what there is none of |
//! | the others | handlers, a file per noun |
//!
//! A handler is `(clc, caller, request) → answer`. It checks everything first, then records intent in
//! one transaction, wakes a task and answers; it never waits for a guest or a copy. `DryRun` needs no
//! handler's help: every change goes through [`change`], which then takes it back.

pub mod account_attributes;
pub mod addresses;
pub mod behind;
pub mod bootstrap;
pub mod bundle_tasks;
pub mod capacity;
pub mod errors;
pub mod filters;
pub mod idempotency;
pub mod image_attributes;
pub mod images;
pub mod instance_attributes;
pub mod instance_types;
pub mod instances;
pub mod key_pairs;
pub mod launch;
pub mod naming;
pub mod network_interfaces;
pub mod nothing;
pub mod paging;
pub mod regions;
pub mod security_groups;
pub mod sts;
pub mod table;
pub mod tags;
pub mod volumes;
pub mod vpcs;
pub mod zones;

use ec2::Code;
use store::Tx;
use wire::Parameters;

use crate::{Caller, Clc, caller::DEFAULT_VERSION, edge::Service};
use errors::{Error, Result};

/// One call of a query service, by whoever the edge says.
#[derive(Debug)]
pub struct Call {
    /// Of which service.
    pub service: Service,
    /// Its action.
    pub action: String,
    /// The API version that the client speaks; empty: the usual one.
    pub version: String,
    /// Its parameters.
    pub parameters: Parameters,
}

/// Does what is asked; gives the whole answer as XML.
pub async fn dispatch(clc: &Clc, mut caller: Caller, call: Call) -> ec2::Result<String> {
    if !call.version.is_empty() {
        caller.api_version.clone_from(&call.version);
    }
    let asks: Common = wire::query::decode(&call.parameters)?.value;
    caller.acting = format!("ec2:{}", call.action);
    caller.region = clc.region.to_string();
    caller.is_dry_run = asks.dry_run.unwrap_or(false);

    let answer = table::run(clc, &caller, &call)
        .await
        .map_err(|error| error.0)?;
    if caller.is_dry_run {
        Err(would_have_succeeded().0)
    } else {
        Ok(answer)
    }
}

/// What any action may be asked.
#[derive(serde::Deserialize)]
struct Common {
    #[serde(rename = "DryRun")]
    dry_run: Option<bool>,
}

fn would_have_succeeded() -> Error {
    Error::new(
        Code::DryRunOperation,
        "Request would have succeeded, but DryRun flag is set.",
    )
}

/// Whether a client's version of the API is from before a date.
fn is_before(version: &str, date: &str) -> bool {
    let version = if version.starts_with("20") {
        version
    } else {
        DEFAULT_VERSION
    };
    version < date
}

/// Records intent in one transaction. On a dry run it is checked, and taken back.
async fn change<T: Send + 'static>(
    clc: &Clc,
    caller: &Caller,
    record: impl FnOnce(&Tx) -> Result<T> + Send + 'static,
) -> Result<T> {
    let is_dry_run = caller.is_dry_run;
    clc.db
        .write(move |tx| {
            let made = record(tx)?;
            if is_dry_run {
                Err(would_have_succeeded())
            } else {
                Ok(made)
            }
        })
        .await
}
