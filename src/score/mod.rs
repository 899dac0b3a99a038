//! How anomalous each spectrum is, given what a model makes of it.
//!
//! A scan line becomes features ([`LineScorer::line`]: rank-local, pure), the features of a whole cube become
//! scores ([`LineScorer::scores`]: collective), and root [flags](flag()) a map of scores and finds its
//! [`regions()`]. Knows nothing of the model: reconstructions come as arrays.

mod calibrate;
mod covariance;
mod detrend;
mod drift;
mod features;
mod flag;
mod group;
mod kinds;
mod line;
mod mean_field;
mod pcc;
mod pixels;
mod quantile;
mod refit;
mod regions;
mod rx;
mod scan;
mod scores;
mod templates;
mod threshold;

pub use drift::Drift;
pub use flag::{Flags, Meaning, flag};
pub use group::Family;
pub use kinds::Kind;
pub use line::{LineFeatures, LineScorer};
pub use quantile::quantiles;
pub use refit::shifted;
pub use regions::{Region, regions};
pub use rx::{Rx, rx};
pub use scores::Scores;
pub use threshold::threshold;
