//! How anomalous each spectrum is, given a model's reconstruction of it. Knows nothing of the model.
//!
//! The path of a pixel from residual to flag:
//! 1. `line.rs` ([`LineScorer::line`], rank-local): takes a scan line and its reconstruction, window by window;
//! 2. `line_shift.rs`: moves the reconstruction by the line's energy drift, measured on a reference edge;
//! 3. `features.rs`: residual in units of noise, background projected out, as cosine coefficients;
//! 4. `scores.rs` ([`LineScorer::scores`], collective): the steps from here on, over the lines of all ranks;
//! 5. `calibrate.rs`, `detrend.rs`: subtract what the model's own prediction explains, and slow trends over the field;
//! 6. `subspace.rs`: whitens each window and family of anomalies (`covariance.rs`, trimmed) and makes `templates.rs`;
//! 7. `scan.rs`: tests discs for residuals that chance does not explain, and measures how far noise is correlated;
//! 8. `seeds.rs`, `kinds.rs`: grow each kind of anomaly from the most surprising pixel, learning its mean residual;
//! 9. `mean_field.rs`: turns likelihood ratios into posterior odds, given the neighbours: the scores;
//! 10. `flag.rs` ([`flag()`], root): keeps areas (`regions.rs`) of likely pixels, or of those above a `threshold.rs`.
//!
//! Off that path: `pcc.rs`, the paper's score; `rx.rs`, the RX detector on principal components; `drift.rs`, drift
//! without a model; `quantile.rs`, quantiles of values spread over ranks.

mod calibrate;
mod covariance;
mod detrend;
mod drift;
mod features;
mod flag;
mod kinds;
mod line;
mod line_shift;
mod mean_field;
mod pcc;
mod quantile;
mod regions;
mod rx;
mod scan;
mod scores;
mod seeds;
mod subspace;
mod templates;
mod threshold;

pub use drift::Drift;
pub use flag::{Flags, Meaning, flag};
pub use kinds::Kind;
pub use line::{Family, LineFeatures, LineScorer};
pub use quantile::quantiles;
pub use regions::{Region, regions};
pub use rx::{Rx, rx};
pub use scores::Scores;
pub use threshold::threshold;
