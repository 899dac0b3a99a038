//! How anomalous each spectrum is, given a model's reconstruction of it. Knows nothing of the model.
//!
//! Nothing that judges a pixel has seen it: regression, covariance and spread come from blocks of pixels elsewhere.
//!
//! The path of a pixel from counts to flag:
//! 1. `basis.rs` ([`Basis::line`], rank-local): counts and prediction of a scan line (`alignment.rs`: moved by its energy
//!    drift) in a fixed whitening, along some forty directions that the mean spectrum fixes (`edge_profile.rs`: its edges,
//!    moved or higher; slow cosines; detail);
//! 2. `scores.rs` ([`Basis::scores`], collective): the steps from here on, over the lines of all ranks;
//! 3. `sample.rs`: those directions in which something shows, and the prediction's own principal components, without slow
//!    trends over the field (`trend.rs`);
//! 4. `left_out.rs`: regresses on the prediction and whitens what is left, each block of pixels by the others;
//! 5. `setting.rs` (`trust.rs`): how far the prediction is believed, and how much is left out, by the likelihood of pixels left out;
//! 6. `surprise.rs`: statistics over `discs.rs` of four sizes, against what chance reaches: starts of kinds;
//! 7. `kinds.rs`, `grow.rs`: grow each kind of anomaly from its start, learning its mean residual (`mean_field.rs`:
//!    likelihood ratios into posterior odds, given the neighbours);
//! 8. `spread.rs`: how much normal pixels vary along a kind: it is kept if its start exceeds that, or if it stands out: the scores;
//! 9. `flag.rs` ([`flag()`], root): keeps areas (`regions.rs`) of likely pixels, or of those above a `threshold.rs`.
//!
//! Off that path: `ensemble.rs`, the surest of several methods at each pixel; `pcc.rs`, the paper's score; `rx.rs` (`covariance.rs`), the RX detector on principal components; `drift.rs`
//! (`line_shift.rs`, `features.rs`), drift without a model; `quantile.rs`, quantiles of values spread
//! over ranks.

mod alignment;
mod basis;
mod covariance;
mod discs;
mod drift;
mod edge_profile;
mod ensemble;
mod features;
mod flag;
mod grow;
mod kinds;
mod left_out;
mod line_shift;
mod mean_field;
mod pcc;
mod quantile;
mod regions;
mod rx;
mod sample;
mod scores;
mod setting;
mod spread;
mod surprise;
mod threshold;
mod trend;
mod trust;

pub use basis::{Basis, LineFeatures};
pub use drift::Drift;
pub use flag::{Flags, Meaning, flag};
pub use grow::Family;
pub use kinds::Kind;
pub use quantile::quantiles;
pub use regions::{Region, regions};
pub use rx::{Rx, rx};
pub use scores::Scores;
pub use threshold::threshold;
