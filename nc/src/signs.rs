//! Signs of life of a guest, as whoever happens to see them tells its keeper. They are for people
//! (`mallee explain`): one that is lost is no harm.

use tokio::sync::mpsc;
use types::InstanceId;

/// Guests say few things; a node full of booting guests says these at once.
const WAITING_MAX: usize = 1024;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It got its address.
    Dhcp,
    /// It read its metadata.
    Metadata,
    /// It wrote on its console.
    Console,
}

impl Sign {
    /// The step in the timeline.
    pub const fn step(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Metadata => "metadata",
            Self::Console => "console",
        }
    }
}

/// Where signs are told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signs(mpsc::Sender<(InstanceId, Sign)>);

impl Signs {
    /// A teller and the end where the signs come out.
    pub fn new() -> (Self, mpsc::Receiver<(InstanceId, Sign)>) {
        let (tell, told) = mpsc::channel(WAITING_MAX);
        (Self(tell), told)
    }

    /// Tells of a sign; the keeper notes the first of each kind. Never waits.
    pub fn saw(&self, instance: &InstanceId, sign: Sign) {
        let _ = self.0.try_send((instance.clone(), sign));
    }
}
