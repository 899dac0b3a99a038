//! The kinds of a survey: regions that differ alike, in all of its cubes.

use anyhow::Result;
use maud::{Markup, html};

use super::chart;
use super::text::{counted, number, percent};
use super::words::kind_words;
use crate::config::ResidualSpectrum;
use crate::results::RegionSummary;

/// Regions of a survey that differ alike.
pub struct RankedKind {
    /// Cubes that hold it, and their share of all.
    pub cubes: usize,
    pub share: f64,
    pub regions: usize,
    /// Whether it is in nearly all cubes.
    pub is_everywhere: bool,
    /// The day on which it was first recorded.
    pub first_seen: Option<String>,
    /// Mean residual spectrum.
    pub mean: ResidualSpectrum,
    /// The most surprising of its regions, at least one.
    pub strongest: Vec<KindMember>,
}

/// A region of a kind.
pub struct KindMember {
    /// Place of its cube in the ranking, from 0.
    pub rank: usize,
    pub cube: String,
    pub region: RegionSummary,
    pub surprise: f64,
}

/// The section of `kinds`; the page shows the first `shown` cubes of the ranking.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn kinds_section(kinds: &[RankedKind], shown: usize) -> Result<Markup> {
    let mut charts = Vec::new();
    for kind in kinds {
        charts.push(chart::residual(&kind.mean)?);
    }
    Ok(html! {
        @if !kinds.is_empty() {
            h2 { "Kinds" }
            p.note {
                "Regions whose residual spectra are alike are one kind, whatever cube they are in. Those in most cubes come first. \
                 The chart is what was measured less what was expected, in units of the noise."
            }
            .kinds {
                @for (i, (kind, chart)) in kinds.iter().zip(charts).enumerate() {
                    section id={ "kind-" (i + 1) } {
                        h3 { (i + 1) ". " (kind_words(&kind.strongest[0].region)) }
                        p {
                            "in " b { (counted(kind.cubes, "cube")) } " (" (percent(kind.share)) "), "
                            (counted(kind.regions, "region"))
                            @if let Some(day) = &kind.first_seen { ", first seen " (day) }
                            @if kind.is_everywhere {
                                ". " b { "In nearly every cube: rather of the instrument than of the specimens." }
                            }
                        }
                        (chart)
                        p.note {
                            "The strongest: "
                            @for (i, member) in kind.strongest.iter().enumerate() {
                                @if i > 0 { ", " }
                                @if member.rank < shown {
                                    a href={ "#cube-" (member.rank) } { (member.cube) }
                                } @else { (member.cube) }
                                " (" (number(member.surprise)) ")"
                            }
                        }
                    }
                }
            }
        }
    })
}
