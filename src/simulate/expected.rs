//! The electrons expected at a pixel: background and edges mixed, with the change that an anomaly makes.

use super::specimen::ProbedPoint;
use super::spectra::{Component, Grid, Variant};
use crate::config::{Anomaly, AnomalyKind, Material, MaterialEdge};

/// What an anomaly does to the spectrum.
enum Change {
    /// The edge of this index has these orders of scattering instead of its own.
    Replaced(usize, [Component; 3]),
    /// The edge of this index is multiplied by this.
    Scaled(usize, f64),
    Background(Component),
    /// The expectation stays as it is: a spike hits the camera.
    None,
}

impl Change {
    /// The change that `anomaly`, validated for `material`, makes.
    fn new(anomaly: &Anomaly, material: &Material, grid: Grid) -> Change {
        let Some(edge) = anomaly.edge(material) else {
            return Change::None;
        };
        let index = material.edges.iter().position(|other| other == edge);
        let index = index.expect("an edge of the material is one of its edges");
        let amount = anomaly.amount;
        let replaced =
            |edge: &MaterialEdge, variant| Change::Replaced(index, Component::edge(material, edge, variant, grid));
        match anomaly.kind {
            AnomalyKind::Shift => replaced(edge, Variant { shift_ev: amount, ..Variant::default() }),
            AnomalyKind::Broaden => replaced(edge, Variant { added_fwhm_ev: amount, ..Variant::default() }),
            AnomalyKind::Mixture => replaced(
                edge,
                Variant {
                    other_valence: Some([amount, anomaly.valence_shift_ev.unwrap_or(0.0)]),
                    ..Variant::default()
                },
            ),
            AnomalyKind::Ratio => {
                let mut changed = edge.clone();
                // Half way between L3 and L2.
                let split = 0.5 * (edge.steps[0].energy_ev + edge.steps[1].energy_ev);
                let first = |peak: &&mut crate::config::Peak| peak.energy_ev < split;
                for peak in changed.peaks.iter_mut().filter(first) {
                    peak.height *= 1.0 + amount;
                }
                replaced(&changed, Variant::default())
            }
            AnomalyKind::Scale | AnomalyKind::Oxygen => Change::Scaled(index, 1.0 + amount),
            AnomalyKind::Slope => {
                let mut steeper = material.clone();
                steeper.background_exponent += amount;
                Change::Background(Component::background(&steeper, grid))
            }
            AnomalyKind::Spike => Change::None,
        }
    }
}

/// The component spectra of one scene.
pub struct Components {
    channels: usize,
    background: Component,
    edges: Vec<[Component; 3]>,
    /// By anomaly.
    changes: Vec<Change>,
    /// The edge that is shifted slowly over the field.
    benign_edge: Option<usize>,
}

impl Components {
    /// `margin` is the number of channels on either side of the grid.
    pub fn new(material: &Material, anomalies: &[Anomaly], grid: Grid, margin: usize) -> Components {
        let benign_edge = material.anomalous(None);
        Components {
            channels: grid.channels + 2 * margin,
            background: Component::background(material, grid),
            edges: material
                .edges
                .iter()
                .map(|edge| Component::edge(material, edge, Variant::default(), grid))
                .collect(),
            changes: anomalies.iter().map(|anomaly| Change::new(anomaly, material, grid)).collect(),
            benign_edge: material.edges.iter().position(|edge| Some(edge) == benign_edge),
        }
    }

    /// All components at one energy drift, from `margin` channels below the first on.
    pub fn at_drift(&self, drift_ev: f64, margin: usize) -> LineSpectra<'_> {
        let sample = |component: &Component| self.sampled(component, drift_ev, margin);
        let replaced = |change: &Change| match change {
            Change::Replaced(_, orders) => orders.iter().map(sample).collect(),
            Change::Background(component) => vec![sample(component)],
            Change::Scaled(..) | Change::None => Vec::new(),
        };
        LineSpectra {
            drift_ev,
            margin,
            background: sample(&self.background),
            edges: self.edges.iter().map(|orders| orders.iter().map(sample).collect()).collect(),
            replacements: self.changes.iter().map(replaced).collect(),
            components: self,
        }
    }

    fn sampled(&self, component: &Component, drift_ev: f64, margin: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.channels];
        component.sample(drift_ev, margin, &mut out);
        out
    }
}

/// The components at the energy drift of one scan line.
pub struct LineSpectra<'a> {
    drift_ev: f64,
    margin: usize,
    background: Vec<f32>,
    /// By edge, then by order of scattering.
    edges: Vec<Vec<Vec<f32>>>,
    /// By anomaly: the orders of its edge, or its background.
    replacements: Vec<Vec<Vec<f32>>>,
    components: &'a Components,
}

impl LineSpectra<'_> {
    /// Writes the electrons expected at a probed point, with the change that `anomaly` makes.
    pub fn mix(&self, probed: &ProbedPoint, anomaly: Option<usize>, electrons: f64, out: &mut [f32]) {
        let change = anomaly.map(|a| (&self.components.changes[a], &self.replacements[a]));
        let background = (electrons * probed.background) as f32;
        let shape = match change {
            Some((Change::Background(_), other)) => &other[0],
            _ => &self.background,
        };
        for (value, &component) in out.iter_mut().zip(shape) {
            *value = background * component;
        }
        for (index, (orders, &amount)) in self.edges.iter().zip(&probed.edges).enumerate() {
            let mut source = &self.components.edges[index];
            let (mut orders, mut amount) = (orders, electrons * amount);
            match change {
                Some((Change::Replaced(changed, components), other)) if *changed == index => {
                    (source, orders) = (components, other)
                }
                Some((Change::Scaled(changed, factor), _)) if *changed == index => amount *= factor,
                _ => {}
            }
            let moved: Vec<Vec<f32>>;
            if probed.benign_shift_ev != 0.0 && self.components.benign_edge == Some(index) {
                let drift_ev = self.drift_ev + probed.benign_shift_ev;
                let sample = |component| self.components.sampled(component, drift_ev, self.margin);
                moved = source.iter().map(sample).collect();
                orders = &moved;
            }
            let t = probed.thickness;
            let [a, b, c] = [amount, amount * t, amount * 0.5 * t * t].map(|v| v as f32);
            let [single, once, twice] = [&orders[0], &orders[1], &orders[2]];
            for (((value, &s), &o), &d) in out.iter_mut().zip(single).zip(once).zip(twice) {
                *value += a * s + b * o + c * d;
            }
        }
    }
}
