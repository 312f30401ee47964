//! Renewal: at two thirds of a certificate's life, ask for the next one and take it up.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Tls;
use crate::{BoxError, chain, clock::SharedClock};

/// A failed renewal is tried again soon; a third of the lifetime (30 days) is left for it.
const RETRY: Duration = Duration::from_secs(10 * 60);
/// Wall clocks get set: the date is looked at this often rather than slept for.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// Keeps the certificate fresh until cancelled. `ask` sends a certificate request (PEM) to the
/// cloud and gives back the certificate (PEM); it is called only when renewal is due.
pub async fn renew(
    tls: Tls,
    clock: SharedClock,
    cancel: CancellationToken,
    ask: impl AsyncFn(String) -> Result<String, BoxError>,
) {
    loop {
        let wait = match once(&tls, &clock, &ask).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(
                    error = chain(&*error),
                    "certificate not renewed, trying again"
                );
                RETRY
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = clock.sleep(wait) => {}
        }
    }
}

async fn once(
    tls: &Tls,
    clock: &SharedClock,
    ask: &impl AsyncFn(String) -> Result<String, BoxError>,
) -> Result<(), BoxError> {
    if clock.now_ms() < tls.renew_at_ms() {
        return Ok(());
    }
    let certificate_pem = ask(tls.renewal_request()?).await?;
    tls.renewed(&certificate_pem)?;
    tracing::info!(peer = %tls.peer(), not_after_ms = tls.not_after_ms(), "certificate renewed");
    Ok(())
}
