//! What the Cluster Controller may ask of this node: [`control::Node`], answered from keepers, the
//! network and the feed. Nothing here waits for a guest.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use control::{
    CallError, Changes, Code, POLL_WAIT_MS_MAX,
    caches::{CacheReport, CachesAsk, NodeEvict, NodeWarm},
    feed::Poll,
    node::{
        ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, Node, NodeChange,
        Taken,
    },
    rpc::Call,
};
use futures_util::FutureExt;
use types::{InstanceId, network::NetworkDocument};

use crate::{
    cache::Cache, console, hypervisor::Error as HypervisorError, keepers::Keepers, record,
    site::Site,
};

/// What one message may type: as much as a person pastes.
const INPUT_BYTES_MAX: usize = 4096;

/// The served calls.
pub struct Api {
    keepers: Keepers,
    cache: Cache,
}

impl Api {
    /// Answers from these keepers and this cache.
    pub fn new(keepers: Keepers, cache: Cache) -> Arc<Self> {
        Arc::new(Self { keepers, cache })
    }

    fn site(&self) -> &Site {
        self.keepers.site()
    }

    /// A poll ends when the node stops: whoever waits asks the next process.
    async fn unless_stopping<T>(
        &self,
        answer: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            answer = answer => answer,
            () = self.keepers.stopping().cancelled() => {
                Err(CallError::new(Code::NotReady, "this node is stopping"))
            }
        }
    }

    fn known(&self, instance: &InstanceId) -> Result<(), CallError> {
        match self.keepers.get(instance) {
            Some(_) => Ok(()),
            None => Err(CallError::not_found(instance)),
        }
    }
}

#[async_trait]
impl Node for Api {
    async fn instance(&self, _: &Call, wish: InstanceWish) -> Result<Taken, CallError> {
        self.keepers.wish(wish).await
    }

    async fn network(
        &self,
        _: &Call,
        document: NetworkDocument,
    ) -> Result<NetworkTaken, CallError> {
        self.site().networks.offer(document).await
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<NodeChange>, CallError> {
        // A full list that lacks what was not found yet would say that it is gone.
        if !self.keepers.has_adopted() {
            let why = "still looking for the instances of an earlier life";
            return Err(CallError::new(Code::NotReady, why));
        }
        self.unless_stopping(async { Ok(self.site().feed().poll(&poll).await) })
            .await
    }

    async fn console_read(&self, _: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        self.known(&ask.instance)?;
        let log = console::log_in(&record::folder(&self.site().instances, &ask.instance));
        let wait = Duration::from_millis(ask.wait_ms.min(POLL_WAIT_MS_MAX));
        let read = console::read(&log, ask.from, wait)
            .map(|read| read.map_err(|error| CallError::internal(&error)));
        self.unless_stopping(read).await
    }

    async fn console_write(&self, _: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        self.known(&ask.instance)?;
        let bytes = input(&ask.input)?;
        let typed = self.site().hypervisor.type_in(&ask.instance, &bytes).await;
        typed.map(|()| Done {}).map_err(|error| call_error(&error))
    }

    async fn cache(&self, _: &Call, _: CachesAsk) -> Result<CacheReport, CallError> {
        self.cache.report().await
    }

    async fn cache_warm(&self, _: &Call, ask: NodeWarm) -> Result<CacheReport, CallError> {
        self.cache.warm(ask).await
    }

    async fn cache_evict(&self, _: &Call, ask: NodeEvict) -> Result<CacheReport, CallError> {
        self.cache.evict(&ask.image).await
    }
}

fn input(text: &str) -> Result<Vec<u8>, CallError> {
    let invalid = |why: String| CallError::new(Code::Invalid, why);
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| invalid(format!("input: {error}")))?;
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(invalid(format!("input is {INPUT_BYTES_MAX} bytes at most")));
    }
    Ok(bytes)
}

fn call_error(error: &HypervisorError) -> CallError {
    let code = match error {
        HypervisorError::Unreachable(_) => Code::NotReady,
        HypervisorError::TimedOut { .. } => Code::Deadline,
        HypervisorError::NoDomain(_) => Code::NotFound,
        HypervisorError::Refused { .. } => Code::Conflict,
    };
    CallError::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fakes,
        rig::{Process, Rig, pause},
    };

    fn api(node: &Process) -> (Arc<Api>, Call) {
        let cache = crate::rig::cache(&node.keepers);
        (Api::new(node.keepers.clone(), cache), Call::new("test"))
    }

    fn keys(bytes: &[u8]) -> ConsoleWrite {
        let instance = fakes::wish(1).instance;
        ConsoleWrite {
            instance,
            input: STANDARD.encode(bytes),
        }
    }

    fn whole_console() -> ConsoleRead {
        ConsoleRead {
            instance: fakes::wish(1).instance,
            from: None,
            wait_ms: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_console_is_read_and_typed_into_and_only_so_much_at_once() {
        let rig = Rig::new();
        let node = rig.start().await;
        let (api, call) = api(&node);
        let unknown = api.console_read(&call, whole_console()).await.unwrap_err();
        assert_eq!(unknown.code, Code::NotFound);

        node.run(&fakes::wish(1)).await;
        std::fs::write(rig.dir.path().join("i-00000001/console.log"), "login: ").unwrap();
        let text = api.console_read(&call, whole_console()).await.unwrap();
        assert_eq!(STANDARD.decode(text.output).unwrap(), b"login: ");

        api.console_write(&call, keys(b"root\n")).await.unwrap();
        assert_eq!(rig.hypervisor.domains()["i-00000001"].typed, b"root\n");
        for wrong in [
            keys(&[b'x'; 4097]),
            ConsoleWrite {
                input: "%".into(),
                ..keys(b"")
            },
        ] {
            assert_eq!(
                api.console_write(&call, wrong).await.unwrap_err().code,
                Code::Invalid
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_hears_of_a_change_at_once_and_ends_with_the_node() {
        let rig = Rig::new();
        let node = rig.start().await;
        let (api, call) = api(&node);
        node.run(&fakes::wish(1)).await;
        let here = api.changes(&call, Poll::default()).await.unwrap();
        assert!(here.full);

        let poll = Poll {
            after: Some(here.position),
            wait_ms: 20_000,
        };
        let waiting = tokio::spawn({
            let (api, call, poll) = (api.clone(), call.clone(), poll.clone());
            async move { api.changes(&call, poll).await }
        });
        pause(10).await;
        node.signs
            .saw(&fakes::wish(1).instance, crate::signs::Sign::Dhcp);
        pause(50).await;
        assert!(waiting.is_finished());
        let position = waiting.await.unwrap().unwrap().position;

        let poll = Poll {
            after: Some(position),
            wait_ms: 20_000,
        };
        let waiting = tokio::spawn(async move { api.changes(&call, poll).await });
        pause(10).await;
        node.stop().await;
        assert_eq!(waiting.await.unwrap().unwrap_err().code, Code::NotReady);
    }
}
