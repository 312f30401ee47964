//! The calls of the Cloud Controller.

use async_trait::async_trait;
use control::{
    CallError, Changes, Cluster, Code,
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Roster},
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, Taken},
    rpc::Call,
};
use types::network::NetworkDocument;

use crate::Cc;

#[async_trait]
impl Cluster for Cc {
    async fn hold(&self, call: &Call, ask: HoldAsk) -> Result<Hold, CallError> {
        self.note_call();
        let reservation = ask.reservation.clone();
        let held = self.decide(move |book| book.hold(&ask)).await;
        self.metrics().held(&held);
        match &held {
            Ok(hold) => {
                let now = self.now();
                self.with_book(|book| book.prolong(&reservation, now)).await;
                let placed = hold.placements.len();
                tracing::info!(%reservation, placed, request_id = call.request_id, "held");
            }
            Err(error) => {
                tracing::info!(%reservation, %error, request_id = call.request_id, "not held");
            }
        }
        held
    }

    async fn release(&self, _: &Call, ask: HoldRelease) -> Result<Done, CallError> {
        let (reservation, now) = (ask.reservation.clone(), self.now());
        self.with_book(|book| book.note_given_back(reservation, now))
            .await;
        self.decide(move |book| Ok(book.release(&ask))).await
    }

    async fn instance(&self, call: &Call, wish: InstanceWish) -> Result<Taken, CallError> {
        self.note_call();
        let (instance, generation) = (wish.instance.clone(), wish.generation);
        let wanted = wish.wanted;
        let taken = self.decide(move |book| book.wish(&wish)).await;
        match &taken {
            Ok(_) => {
                let request_id = &call.request_id;
                tracing::info!(%instance, generation, ?wanted, request_id, "wish taken");
            }
            Err(error) => tracing::warn!(%instance, generation, %error, "wish not taken"),
        }
        taken
    }

    async fn roster(&self, _: &Call, roster: Roster) -> Result<Taken, CallError> {
        self.note_call();
        self.decide(move |book| Ok(book.take_roster(roster))).await
    }

    async fn network(
        &self,
        _: &Call,
        document: NetworkDocument,
    ) -> Result<NetworkTaken, CallError> {
        self.note_call();
        self.decide(move |book| Ok(book.take_network(document)))
            .await
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<ClusterChange>, CallError> {
        self.note_call();
        Ok(self.poll(&poll).await)
    }

    async fn console_read(&self, call: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        let node = self.node_of(&ask.instance).await?;
        node.console_read(call, ask).await
    }

    async fn console_write(&self, call: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        if ask.input.len() > CONSOLE_INPUT_MAX {
            let what = format!("at most {CONSOLE_INPUT_MAX} characters of base64 at once");
            return Err(CallError::new(Code::Invalid, what));
        }
        let node = self.node_of(&ask.instance).await?;
        node.console_write(call, ask).await
    }
}

/// 4 KiB of keys in base64: more than anyone types between two calls.
const CONSOLE_INPUT_MAX: usize = 4096_usize.div_ceil(3) * 4;
