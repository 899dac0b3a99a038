//! What a residual is the difference from.

/// How residuals are formed from a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// Whether the prediction is subtracted as it is, before any regression; else the mean spectrum is all that is.
    pub as_it_is: bool,
    /// Whether what is left is regressed on the prediction's components.
    pub regressed: bool,
    /// Whether it is regressed on what stands beside the prediction.
    pub beside: bool,
}
