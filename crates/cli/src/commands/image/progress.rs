//! Bars on the terminal, for a command that takes minutes; nothing where the error output is none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const KNOWN: &str =
    "{prefix:>9} {bar:30} {bytes:>10} of {total_bytes:10} {binary_bytes_per_sec:>12} {eta:>5}";
const OPEN: &str = "{prefix:>9} {spinner} {bytes:>10} {binary_bytes_per_sec:>12}";

/// How far bundling and uploading are.
#[derive(Clone)]
pub(super) struct Progress {
    bundling: ProgressBar,
    uploading: ProgressBar,
    /// Bytes of the parts that were made.
    made: Arc<AtomicU64>,
}

impl Progress {
    /// Of an image of so many bytes; 0 if nothing is bundled.
    pub(super) fn new(image_bytes: u64) -> Self {
        let bars = MultiProgress::new();
        let bundling = match image_bytes {
            0 => ProgressBar::hidden(),
            bytes => bars.add(
                ProgressBar::new(bytes)
                    .with_style(style(KNOWN))
                    .with_prefix("bundling"),
            ),
        };
        let uploading = ProgressBar::new_spinner()
            .with_style(style(OPEN))
            .with_prefix("uploading");
        Self {
            bundling,
            uploading: bars.add(uploading),
            made: Arc::default(),
        }
    }

    /// So many bytes will be uploaded.
    pub(super) fn will_upload(&self, bytes: u64) {
        self.uploading.set_length(bytes);
        self.uploading.set_style(style(KNOWN));
    }

    /// Another part of so many bytes has been made: what is to be uploaded in all follows from how
    /// much of the image is in the parts so far.
    pub(super) fn made(&self, bytes: u64) {
        let made = self.made.fetch_add(bytes, Relaxed) + bytes;
        let image_bytes = self.bundling.length().unwrap_or(0);
        let bundled = self.bundling.position().max(1);
        let all = u128::from(made) * u128::from(image_bytes) / u128::from(bundled);
        self.will_upload(u64::try_from(all).unwrap_or(u64::MAX).max(made));
    }

    /// So many bytes of the image have been bundled.
    pub(super) fn bundled(&self, bytes: u64) {
        self.bundling.set_position(bytes);
    }

    /// Another so many bytes have been uploaded.
    pub(super) fn uploaded(&self, bytes: u64) {
        self.uploading
            .enable_steady_tick(Duration::from_millis(200));
        self.uploading.inc(bytes);
    }

    /// It is done; the bars make room for what is printed.
    pub(super) fn finish(&self) {
        self.bundling.finish_and_clear();
        self.uploading.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
