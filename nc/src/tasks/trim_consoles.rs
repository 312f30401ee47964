//! Keeps every console log bounded, whatever the guests write.

use std::time::Duration;

use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};

use crate::{console, record, residents::Residents};

/// The reconciler. An emulated serial port carries some hundred KiB a second at most: between two
/// passes a log grows by a few MiB.
pub struct TrimConsoles {
    /// Whose logs.
    pub residents: Residents,
    /// Where each has its folder.
    pub instances: std::path::PathBuf,
}

impl Reconcile for TrimConsoles {
    const NAME: &'static str = "trim_consoles";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let all = self.residents.all();
        let logs: Vec<_> = all
            .iter()
            .map(|wish| console::log_in(&record::folder(&self.instances, &wish.instance)))
            .collect();
        tokio::task::spawn_blocking(move || {
            for log in logs {
                if let Err(error) = console::trim(&log) {
                    tracing::warn!(log = %log.display(), %error, "a console log is not bounded");
                }
            }
        })
        .await?;
        Ok(Summary::nothing())
    }
}
