//! What the reader says of regions: a choice and a note beside each, which the page's script keeps and saves.

use maud::{Markup, html};
use serde_json::{Value, json};

use crate::config::ResidualSpectrum;
use crate::results::RegionSummary;

pub const SCRIPT: &str = include_str!("verdicts.js");

/// Words for the reader, and what the script takes: the verdict, and what an artefact clings to.
const CHOICES: [(&str, &str); 6] = [
    ("verdict?", ""),
    ("real", "real"),
    ("artefact of the detector", "artefact detector"),
    ("artefact of the scan", "artefact scan"),
    ("known", "known"),
    ("unsure", "unsure"),
];

/// The regions of a page that can be judged, in order.
#[derive(Default)]
pub struct Judgeable(Vec<Value>);

impl Judgeable {
    /// Adds `regions` of the cube `name`, whose residual spectra follow its labels from 1 on; gives the place of the first.
    pub fn add<'a>(
        &mut self,
        (name, fingerprint): (&str, &str),
        regions: impl Iterator<Item = &'a RegionSummary>,
        residuals: &[ResidualSpectrum],
    ) -> usize {
        let first = self.0.len();
        self.0.extend(regions.map(|region| {
            let kind = region.kind.as_ref();
            json!({
                "cube": name,
                "fingerprint": fingerprint,
                "region": region.label,
                "rows": region.rows,
                "columns": region.columns,
                "kind": kind.map(|kind| json!({"window": kind.window, "differs": kind.differs.to_string()})),
                "residual": residuals.get(region.label as usize - 1),
            })
        }));
        first
    }

    /// What the script knows of them, and the button that saves; nothing without a region.
    pub fn panel(&self) -> Markup {
        html! {
            @if !self.0.is_empty() {
                p.save {
                    button #save-verdicts type="button" disabled { "no verdicts yet" }
                    " "
                    span.note {
                        "Verdicts stay in this browser until they are saved. List the file under " code { "archive.verdicts" }
                        " or " code { "survey.verdicts" } ", and artefacts and known kinds are set apart wherever they are \
                        recognised."
                    }
                }
                div #verdict-data hidden { (Value::from(self.0.clone()).to_string()) }
            }
        }
    }
}

/// The choice and the note on `region`, which has the place `index` among those of the page.
pub fn choice(region: &RegionSummary, index: usize) -> Markup {
    let name = |what: &str| format!("{what} on region {}", region.label);
    html! {
        span.verdict data-verdict=(index) {
            select aria-label=(name("Verdict")) {
                @for (words, value) in CHOICES { option value=(value) { (words) } }
            }
            input type="text" placeholder="note" aria-label=(name("Note")) hidden;
        }
    }
}
