//! What the models hold of one cube: its principal components, and the latent dimensions that differ most over it.

use anyhow::Result;

use super::chart;
use super::figure::{self, Overlay};
use super::picture::Quantity;
use super::section::chart_figure;
use super::text::{escape, percent};
use super::{Cube, Property};

/// Factors with their loadings, then latent maps, HTML; nothing where there are none.
pub fn html(cube: &Cube, overlay: &Overlay) -> Result<String> {
    let mut html = String::new();
    if !cube.components.is_empty() {
        html.push_str("<h3>Principal components</h3>\n<div class=\"charts\">\n");
        if !cube.scree.is_empty() {
            let svg = chart::scree(&cube.scree)?;
            chart_figure(&mut html, "Variance explained", "", &svg);
        }
        for (i, component) in cube.components.iter().enumerate() {
            let svg = chart::factor(&cube.energy_ev, &component.factor, &cube.windows)?;
            let share = percent(component.share);
            let title = format!("Factor {}, {share} of the variance", i + 1);
            chart_figure(&mut html, &title, "", &svg);
        }
        html.push_str("</div>\n<div class=\"maps\">\n");
        for (i, component) in cube.components.iter().enumerate() {
            let loading = Property {
                name: format!("loading {}", i + 1),
                note: "electrons along the factor".into(),
                values: component.loading.clone(),
            };
            html.push_str(&property(&loading, cube, overlay)?);
        }
        html.push_str("</div>\n");
    }
    if !cube.latent.is_empty() {
        html.push_str("<h3>Latent code of the 3D-CVAE</h3>\n<div class=\"maps\">\n");
        for dimension in &cube.latent {
            html.push_str(&property(dimension, cube, overlay)?);
        }
        html.push_str("</div>\n");
    }
    Ok(html)
}

/// The figure of one property.
pub fn property(property: &Property, cube: &Cube, overlay: &Overlay) -> Result<String> {
    figure::map(
        &property.values,
        Quantity::Property,
        None,
        overlay,
        &format!("{} of {}", property.name, cube.name),
        &format!("<b>{}</b><br>{}", escape(&property.name), escape(&property.note)),
    )
}
