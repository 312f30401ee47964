//! The metadata service, 169.254.169.254:80 in each VPC's namespace: what a guest is told of itself.
//!
//! Who asks is known by the namespace that the connection came into and by its source address,
//! which anti-spoofing guarantees; no header says it. It serves from the wishes that the node holds,
//! asks nobody, and keeps no state but the key that tokens are made with.

mod limit;
mod listen;
mod request;
mod token;
mod tree;

use std::sync::{Arc, Mutex};

use daemon::{BoxError, Context, clock::SharedClock};

use crate::{network::Network, residents::Residents, signs::Signs};
use limit::Limit;
use token::Key;

/// What every connection is served with.
struct Service {
    residents: Residents,
    signs: Signs,
    key: Key,
    clock: SharedClock,
    limit: Mutex<Limit>,
}

/// Serves the guests of every VPC that is in place, from now on.
pub fn start(
    context: &Context,
    network: &Network,
    residents: Residents,
    signs: Signs,
) -> Result<(), BoxError> {
    let service = Arc::new(Service {
        residents,
        signs,
        key: Key::load_or_make(&context.state)?,
        clock: context.clock.clone(),
        limit: Mutex::default(),
    });
    listen::start(context, network.places(), service);
    Ok(())
}
