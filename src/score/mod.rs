//! How anomalous each spectrum is, given what a model makes of it.
//!
//! A scan line becomes features ([`LineScorer::line`]: rank-local, pure), the features of a whole cube become
//! scores ([`LineScorer::scores`]: collective), and root [flags](flag()) a map of scores and finds its
//! [`regions()`]. Knows nothing of the model: reconstructions come as arrays.

mod background;
mod covariance;
mod features;
mod flag;
mod line;
mod pcc;
mod quantile;
mod refit;
mod regions;
mod rx;
mod scores;
mod templates;
mod threshold;
mod windows;

pub use background::PowerLaw;
pub use flag::{flag, Flags};
pub use line::{LineFeatures, LineScorer};
pub use refit::shifted;
pub use regions::{regions, Region};
pub use rx::{rx, Rx};
pub use scores::Scores;
pub use threshold::threshold;
pub use windows::{find_windows, whole_axis};
