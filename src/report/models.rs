//! What the models hold of one cube: its principal components, and the latent dimensions that vary most over it.

use anyhow::Result;
use maud::{Markup, html};

use super::chart;
use super::contents::{Component, Cube, Property};
use super::figure::{Overlay, chart_figure, property_figure};
use super::text::percent;

/// The principal components: variance explained, factors, loadings.
pub fn components(cube: &Cube, overlay: &Overlay) -> Result<Markup> {
    let factor = |(i, component): (usize, &Component)| -> Result<Markup> {
        let svg = chart::factor(&cube.energy_ev, &component.factor, &cube.windows)?;
        let title = format!("Factor {}, {} of the variance", i + 1, percent(component.share));
        Ok(chart_figure(&title, html! {}, svg))
    };
    let loading = |(i, component): (usize, &Component)| {
        let loading = Property {
            name: format!("loading {}", i + 1),
            note: "electrons along the factor".into(),
            values: component.loading.clone(),
        };
        property_figure(&loading, cube, overlay)
    };
    let components = || cube.components.iter().enumerate();
    Ok(html! {
        .charts {
            @if !cube.scree.is_empty() { (chart_figure("Variance explained", html! {}, chart::scree(&cube.scree)?)) }
            @for component in components() { (factor(component)?) }
        }
        .maps { @for component in components() { (loading(component)?) } }
    })
}

/// The maps of the latent code.
pub fn latent(cube: &Cube, overlay: &Overlay) -> Result<Markup> {
    Ok(html! { .maps { @for dimension in &cube.latent { (property_figure(dimension, cube, overlay)?) } } })
}
