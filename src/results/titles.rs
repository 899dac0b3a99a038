//! The titles of the signals in a cube's file. HyperSpy lists them in alphabetical order.

pub const COUNTS: &str = "00_counts";
pub const MEAN: &str = "01_mean_spectrum";
pub const ENERGY_SHIFT: &str = "03_energy_shift";
pub const THICKNESS: &str = "04_thickness";
pub const REGIONS: &str = "30_regions";
pub const REGION_SPECTRA: &str = "31_region_spectra";
pub const REGION_RECONSTRUCTIONS: &str = "32_region_reconstructions";
/// How the two differ, in units of the noise.
pub const REGION_RESIDUALS: &str = "34_region_residuals";
pub const SHIFT: &str = "33_estimated_shift_ev";
pub const LATENT: &str = "40_latent";
pub const PCA: &str = "50_pca";
/// What `learning_results` of [`PCA`] holds, as signals of their own.
pub const PCA_COMPONENTS: &str = "51_pca_components";
pub const PCA_LOADINGS: &str = "52_pca_loadings";
pub const RECONSTRUCTION: &str = "60_reconstruction";

/// The map of one score.
pub fn map_title(method: &str, score: &str) -> String {
    format!("10_{method}_{score}")
}

/// The mask of what one score flags.
pub fn mask_title(method: &str, score: &str) -> String {
    format!("20_{method}_{score}_mask")
}
