//! Materials: the core-loss edges of their elements and where in the unit cell the atoms sit.

/// A line on top of an edge: a Gaussian.
#[derive(Clone, Debug, PartialEq)]
pub struct Peak {
    pub energy_ev: f64,
    pub fwhm_ev: f64,
    /// In units of the edge's whole step.
    pub height: f64,
}

/// A rise of the continuum, falling off as a power law above it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub energy_ev: f64,
    /// Share of the edge's whole step.
    pub weight: f64,
    /// Energy over which it rises; 0 for a sharp one.
    pub width_ev: f64,
}

/// One element's edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    pub element: &'static str,
    /// The whole step in units of the background at the first step.
    pub jump: f64,
    pub steps: Vec<Step>,
    pub peaks: Vec<Peak>,
    /// Places of the atom columns in the projected unit cell, fractions of its side.
    pub sites: Vec<[f64; 2]>,
    /// Gaussian width (sigma) of a column as the probe sees it.
    pub column_sigma_angstrom: f64,
}

/// A background and the edges above it, in a square cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Material {
    /// The background falls as `energy^-background_exponent`.
    pub background_exponent: f64,
    pub cell_angstrom: f64,
    /// Half the range over which a column's signal varies with the place of the probe, relative to its mean.
    pub lattice_modulation: f64,
    pub edges: Vec<Edge>,
}

/// BiFeO3 along a pseudocubic axis: O K, Fe L2,3, Bi N4,5.
/// # Source
/// SCIENCE.md 4.
pub fn bismuth_ferrite() -> Material {
    let step = |energy_ev, weight, width_ev| Step {
        energy_ev,
        weight,
        width_ev,
    };
    let peak = |energy_ev, fwhm_ev, height| Peak {
        energy_ev,
        fwhm_ev,
        height,
    };
    let oxygen = Edge {
        element: "O",
        jump: 0.9,
        steps: vec![step(532.0, 1.0, 0.0)],
        peaks: vec![
            peak(530.6, 1.6, 0.55),
            peak(532.8, 2.0, 0.40),
            peak(536.6, 3.5, 0.45),
            peak(541.8, 5.0, 0.50),
            peak(549.0, 7.0, 0.20),
            peak(563.0, 11.0, 0.20),
        ],
        // Face centres: seen along the axis, one above the iron and two on the sides.
        sites: vec![[0.5, 0.5], [0.0, 0.5], [0.5, 0.0]],
        column_sigma_angstrom: 0.9,
    };
    let iron = Edge {
        element: "Fe",
        jump: 0.35,
        steps: vec![step(709.5, 2.0 / 3.0, 0.0), step(722.6, 1.0 / 3.0, 0.0)],
        peaks: vec![
            peak(708.1, 1.4, 1.4),
            peak(709.5, 2.0, 3.2),
            peak(713.0, 5.0, 0.5),
            peak(721.0, 1.8, 0.55),
            peak(722.8, 2.4, 1.0),
        ],
        sites: vec![[0.5, 0.5]],
        column_sigma_angstrom: 0.75,
    };
    let bismuth = Edge {
        element: "Bi",
        jump: 0.10,
        // Delayed maximum: 4d to f is held off by the centrifugal barrier.
        steps: vec![step(440.0, 0.6, 30.0), step(464.0, 0.4, 30.0)],
        peaks: Vec::new(),
        sites: vec![[0.0, 0.0]],
        column_sigma_angstrom: 0.85,
    };
    Material {
        background_exponent: 2.9,
        cell_angstrom: 3.96,
        lattice_modulation: 0.35,
        edges: vec![oxygen, iron, bismuth],
    }
}
