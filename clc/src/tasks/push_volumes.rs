//! Every store has the newest wish of each of its volumes.

use std::{sync::Arc, time::Duration};

use control::Code;
use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use store::Error;
use types::Zone;

use super::{call, observe::follow_volume};
use crate::{
    Clc,
    rows::volumes::{self, Volume},
    seen::Answers,
    volume::Event,
    wish,
};

/// See the module.
pub struct PushVolumes(pub Arc<Clc>);

impl Reconcile for PushVolumes {
    const NAME: &'static str = "push_volumes";
    const PERIOD: Duration = Duration::from_secs(2);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        for zone in self.0.peers.storage_zones() {
            if !matches!(self.0.seen.storage(&zone).answers, Answers::Not(..)) {
                push_zone(&self.0, zone, &mut summary).await?;
            }
        }
        Ok(summary)
    }
}

async fn push_zone(clc: &Clc, zone: Zone, summary: &mut Summary) -> Result<(), BoxError> {
    let unsettled = clc
        .db
        .read(move |tx| volumes::list_unsettled(tx, &zone))
        .await?;
    for volume in unsettled
        .iter()
        .filter(|volume| volume.taken_generation < volume.generation)
    {
        push(clc, volume, summary).await?;
    }
    Ok(())
}

async fn push(clc: &Clc, volume: &Volume, summary: &mut Summary) -> Result<(), BoxError> {
    let Some(storage) = clc.peers.storage(&volume.zone) else {
        return Ok(());
    };
    let (id, generation, now) = (volume.id.clone(), volume.generation, clc.now());
    match storage
        .volume(&call("push_volumes"), wish::of_volume(volume))
        .await
    {
        Ok(_) => {
            summary.count("taken", 1);
            clc.db
                .write(move |tx| volumes::set_taken(tx, &id, generation))
                .await?;
        }
        // The store will not have it: that is final, and the user is told.
        Err(error) if matches!(error.code, Code::NoRoom | Code::Invalid) && volume.is_wanted => {
            summary.count("refused", 1);
            clc.db
                .write(move |tx| {
                    // Wished away meanwhile: the newer wish is yet to be answered.
                    let asked = volumes::load(tx, &id)?.filter(|row| row.generation == generation);
                    if let Some(volume) = asked {
                        follow_volume(tx, &volume, Event::Refused(&error.message), now)?;
                        volumes::set_taken(tx, &id, generation)?;
                    }
                    Ok::<_, Error>(())
                })
                .await?;
        }
        Err(error) => {
            summary.count("failed", 1);
            tracing::warn!(volume = %id, generation, %error, "a wish was not taken");
        }
    }
    Ok(())
}
