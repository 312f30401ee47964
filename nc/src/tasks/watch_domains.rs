//! Carries what the hypervisor says, and the guests' signs of life, to the keepers.

use daemon::BoxError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use types::InstanceId;

use crate::{
    hypervisor::{Events, Happened},
    instance::Event,
    keeper::Message,
    keepers::Keepers,
    signs::Sign,
};

/// The hypervisor as it is now: its versions, or why it cannot be reached.
pub type HypervisorState = watch::Sender<Result<String, String>>;

/// Runs until told to stop.
pub async fn watch_domains(
    keepers: Keepers,
    mut events: Events,
    mut signs: mpsc::Receiver<(InstanceId, Sign)>,
    state: HypervisorState,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some((instance, sign)) = signs.recv() => {
                if let Some(keeper) = keepers.get(&instance) {
                    keeper.mention(Message::Sign(sign));
                }
            }
            happened = events.recv() => match happened {
                Some(happened) => pass_on(&keepers, happened, &state).await,
                None => return Err("the hypervisor's events ended".into()),
            }
        }
    }
}

async fn pass_on(keepers: &Keepers, happened: Happened, state: &HypervisorState) {
    match happened {
        Happened::Gone(name, end) => tell(keepers, &name, Event::Gone(end)).await,
        Happened::Reset(name) => tell(keepers, &name, Event::GuestReset).await,
        Happened::Paused(name, cause) => tell(keepers, &name, Event::Paused(cause)).await,
        Happened::Resumed(name) => tell(keepers, &name, Event::Resumed).await,
        // Whoever started it knows.
        Happened::Running(_) => {}
        Happened::Connected => {
            keepers.look.wake();
            let version = keepers.site().hypervisor.version().await;
            tracing::info!(?version, "the hypervisor can be reached");
            let _ = state.send_replace(version.map_err(|error| error.to_string()));
            keepers.site().changed.wake();
        }
        Happened::Lost(why) => {
            tracing::warn!(why, "the hypervisor cannot be reached");
            let _ = state.send_replace(Err(why));
            keepers.site().changed.wake();
        }
    }
}

async fn tell(keepers: &Keepers, name: &str, event: Event) {
    let keeper = name
        .parse()
        .ok()
        .and_then(|instance: InstanceId| keepers.get(&instance));
    if let Some(keeper) = keeper {
        let _ = keeper.tell(Message::Happened(event)).await;
    }
}
