//! Spectra by themselves: backgrounds, shifts, edges, and the medians and quantiles that fits are judged by.
//!
//! Backgrounds:
//! * [`PowerLaw`]: a fit before an edge, extrapolated under it. To find an edge, or to take it out of a mean spectrum.
//! * [`inverse_cube`]: only the shape of a background. To leave it free in a fit to residuals, which are too noisy for
//!   a power law of their own.
//!
//! Shifts, measured:
//! * [`zero_loss_ev`]: by the zero-loss peak. Low-loss spectra, pixel by pixel.
//! * [`EdgeTemplate`]: an edge against that of the mean spectrum, the amount and the background free. Core-loss
//!   spectra, means over a few pixels, shifts of several channels.
//! * `score/line_shift.rs`: a scan line against its own model, for drifts of less than a channel.
//!
//! Shifts, undone or made:
//! * [`Resampling`]: counts, conserved, onto another axis. Measured spectra.
//! * [`shifted`]: cubic interpolation. Smooth models and edges, where no count needs to be conserved.
//!
//! Sums: [`sum_spectra`], [`sum_products`], in an order that does not depend on ranks, threads or the machine.
//!
//! Edges: [`find_edges`] finds them in a mean spectrum and names them by the table of `elements.rs`; [`find_windows`]
//! gives the windows to score them in.

mod background;
mod delayed;
mod edge_shift;
mod edges;
mod elements;
mod excess;
mod identify;
mod naming;
mod quantile;
mod resample;
mod shift;
mod sum;
mod zero_loss;

pub use background::{NATURAL_SLOPES, NOISY_SLOPES, PowerLaw, inverse_cube};
pub use edge_shift::EdgeTemplate;
pub use edges::{MIN_CHANNELS, find_edges, find_windows, whole_axis, windows_of};
pub use naming::FoundEdge;
pub use quantile::{MAD_OF_SD, Middle, median, quantile, quantile_index, weighted_median};
pub use resample::Resampling;
pub use shift::shifted;
pub use sum::{sum_products, sum_spectra};
pub use zero_loss::{log_ratio, zero_loss_ev};
