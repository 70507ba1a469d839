//! How far a transfer is, on a terminal where somebody watches.

use std::fmt;

use indicatif::{ProgressBar, ProgressStyle};

use crate::render::Out;

const BAR: &str = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
const SPINNER: &str = "{spinner} {binary_bytes} {binary_bytes_per_sec}";

/// A line on standard error, or none. It goes away when this is dropped.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Of something that has about `total` bytes, or nobody knows how many.
    pub(crate) fn new(out: &Out, total: Option<u64>) -> Self {
        if !out.shows_progress() {
            return Self(None);
        }
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template = if total.is_some() { BAR } else { SPINNER };
        // The templates above are constant; a wrong one would leave the usual style.
        Self(Some(match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }))
    }

    /// So many bytes more.
    pub(crate) fn advance(&self, bytes: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.is_some()).finish()
    }
}
