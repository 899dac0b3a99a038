//! Materials to simulate: the core-loss edges of their elements and where in the unit cell the atoms sit.

use anyhow::{Result, bail, ensure};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::places::within;

/// Materials that ship, by name.
const SHIPPED: [(&str, &str); 3] = [
    ("BiFeO3", include_str!("materials/BiFeO3.yaml")),
    ("LaMnO3", include_str!("materials/LaMnO3.yaml")),
    ("SrTiO3", include_str!("materials/SrTiO3.yaml")),
];

/// A background and the edges above it, in a square cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Material {
    /// The background falls as `energy^-background_exponent`, 0 to 6.
    #[serde(default = "default_exponent")]
    pub background_exponent: f64,
    /// Side of the projected unit cell.
    #[serde(default = "default_cell")]
    pub cell_angstrom: f64,
    /// Half the range over which a column's signal varies with the place of the probe, relative to its mean, 0 to 1.
    #[serde(default)]
    pub lattice_modulation: f64,
    /// The element whose edge an anomaly changes unless it names another; the first by default.
    #[serde(default)]
    pub anomalous: Option<String>,
    /// The edges of the elements.
    pub edges: Vec<MaterialEdge>,
}

/// One element's edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaterialEdge {
    /// Symbol of the element, once in the list.
    pub element: String,
    /// The whole step in units of the background at the first step.
    pub jump: f64,
    /// One for each subshell; an L2,3 edge has two.
    pub steps: Vec<Rise>,
    /// Lines on top of the edge.
    #[serde(default)]
    pub peaks: Vec<Peak>,
    /// Places of the atom columns in the projected unit cell, fractions of its side; none where the signal does not vary.
    #[serde(default)]
    pub sites: Vec<[f64; 2]>,
    /// Gaussian width (sigma) of a column as the probe sees it.
    #[serde(default = "default_sigma")]
    pub column_sigma_angstrom: f64,
}

/// A rise of the continuum, falling off as a power law above it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rise {
    /// Where it rises, eV.
    pub energy_ev: f64,
    /// Share of the edge's whole step.
    #[serde(default = "whole")]
    pub weight: f64,
    /// Energy over which it rises; 0 for a sharp one.
    #[serde(default)]
    pub width_ev: f64,
}

/// A line on top of an edge: a Gaussian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// Its maximum, eV.
    pub energy_ev: f64,
    /// Full width at half maximum, eV.
    pub fwhm_ev: f64,
    /// In units of the edge's whole step.
    pub height: f64,
}

fn default_exponent() -> f64 {
    2.9
}

fn default_cell() -> f64 {
    3.9
}

fn default_sigma() -> f64 {
    0.8
}

fn whole() -> f64 {
    1.0
}

impl Material {
    /// The element whose edge is changed for an anomaly that names `element`, or none.
    pub fn anomalous<'a>(&'a self, element: Option<&'a str>) -> Option<&'a MaterialEdge> {
        let wanted = element.or(self.anomalous.as_deref());
        match wanted {
            Some(wanted) => self.edges.iter().find(|edge| edge.element == wanted),
            None => self.edges.first(),
        }
    }

    /// # Errors
    /// Names the edge, the field, its value and the values that it may have.
    pub fn validate(&self) -> Result<()> {
        within("background_exponent", self.background_exponent, 0.0, 6.0)?;
        within("cell_angstrom", self.cell_angstrom, 1.0, 100.0)?;
        within("lattice_modulation", self.lattice_modulation, 0.0, 1.0)?;
        for (i, edge) in self.edges.iter().enumerate() {
            let element = &edge.element;
            ensure!(
                !element.is_empty() && self.edges[..i].iter().all(|e| e.element != *element),
                "edges: `element` {element:?} stands twice, or is empty: give each edge a name of its own"
            );
            if let Err(error) = edge.validate() {
                bail!("edges: {element}: {error}");
            }
        }
        if let Some(element) = &self.anomalous {
            ensure!(self.anomalous(None).is_some(), "`anomalous` is {element}: the edges are of {}", self.elements());
        }
        Ok(())
    }

    pub(super) fn elements(&self) -> String {
        let names: Vec<&str> = self.edges.iter().map(|edge| &edge.element[..]).collect();
        names.join(", ")
    }
}

impl MaterialEdge {
    fn validate(&self) -> Result<()> {
        within("jump", self.jump, 0.0, 1e3)?;
        within("column_sigma_angstrom", self.column_sigma_angstrom, 0.05, 100.0)?;
        ensure!(!self.steps.is_empty(), "`steps` is empty: an edge has one or more");
        for step in &self.steps {
            within("energy_ev", step.energy_ev, 50.0, 5000.0)?;
            within("weight", step.weight, 0.0, 1.0)?;
            within("width_ev", step.width_ev, 0.0, 500.0)?;
        }
        for peak in &self.peaks {
            within("energy_ev", peak.energy_ev, 50.0, 5000.0)?;
            within("fwhm_ev", peak.fwhm_ev, 0.01, 500.0)?;
            within("height", peak.height, 0.0, 1e3)?;
        }
        ensure!(
            self.sites.iter().flatten().all(|part| (0.0..=1.0).contains(part)),
            "`sites` are fractions of the cell, [0, 0] to [1, 1]"
        );
        Ok(())
    }
}

/// A material by the name of one that ships, or described.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum MaterialChoice {
    Named(String),
    Described(Material),
}

impl Default for MaterialChoice {
    fn default() -> Self {
        MaterialChoice::Named(SHIPPED[0].0.into())
    }
}

impl MaterialChoice {
    /// # Errors
    /// A name that is not known, with those that are; a description that makes no sense.
    pub fn material(&self) -> Result<Material> {
        let material = match self {
            MaterialChoice::Described(material) => material.clone(),
            MaterialChoice::Named(name) => {
                let shipped = SHIPPED.iter().find(|(known, _)| known == name);
                let Some((_, text)) = shipped else {
                    let names = SHIPPED.map(|(name, _)| name).join(", ");
                    bail!("`material` is {name}: give {names} or a description with `edges`");
                };
                serde_yaml::from_str(text).expect("what ships is a material")
            }
        };
        material.validate()?;
        Ok(material)
    }
}

/// By hand, so that an error inside a description names its own field.
impl<'de> Deserialize<'de> for MaterialChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = MaterialChoice;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a material's name or a description with `edges`")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<MaterialChoice, E> {
                Ok(MaterialChoice::Named(name.into()))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<MaterialChoice, M::Error> {
                Material::deserialize(MapAccessDeserializer::new(map)).map(MaterialChoice::Described)
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(yaml: &str) -> String {
        let choice: Result<MaterialChoice, _> = serde_yaml::from_str(yaml);
        match choice {
            Err(error) => error.to_string(),
            Ok(choice) => choice.material().unwrap_err().to_string(),
        }
    }

    #[test]
    fn what_ships_is_valid_and_its_names_are_listed() {
        for (name, _) in SHIPPED {
            let material = MaterialChoice::Named(name.into()).material().unwrap();
            assert_eq!(material.anomalous(None).unwrap().steps.len(), 2, "{name}");
        }
        assert!(refused("NaCl").contains("BiFeO3, LaMnO3, SrTiO3"));
    }

    #[test]
    fn a_description_needs_little_and_its_faults_are_named() {
        let yaml = "{edges: [{element: C, jump: 2, steps: [{energy_ev: 284}]}]}";
        let choice: MaterialChoice = serde_yaml::from_str(yaml).unwrap();
        let carbon = choice.material().unwrap();
        assert_eq!(carbon.anomalous(None).unwrap().steps[0].weight, 1.0);
        for (yaml, word) in [
            ("{edges: [{element: C, jmp: 2, steps: []}]}", "jmp"),
            ("{edges: [{element: C, jump: 2, steps: []}]}", "`steps` is empty"),
            ("{edges: [{element: C, jump: 2, steps: [{energy_ev: 2}]}]}", "C: `energy_ev` is 2"),
            ("{anomalous: N, edges: [{element: C, jump: 2, steps: [{energy_ev: 284}]}]}", "`anomalous` is N"),
            ("[1]", "a material's name"),
        ] {
            assert!(refused(yaml).contains(word), "{yaml}: {}", refused(yaml));
        }
    }
}
