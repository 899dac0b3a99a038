//! The frame of every page: head with style and content policy, title, script.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::figure;
use super::text::printable;

/// Shows the value below the pointer.
const SCRIPT: &str = include_str!("readout.js");

/// A whole document. It loads nothing: its policy forbids all but its own pictures and this one script.
pub fn page(title: &str, body: &Markup) -> String {
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'",
        BASE64_STANDARD.encode(Sha256::digest(SCRIPT))
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                (figure::gradients())
                main {
                    h1 { (title) }
                    (body)
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    printable(&page.into_string())
}

/// Fails if `page` holds an address, a script but its own, or an attribute that loads or leads anywhere but into it.
#[cfg(test)]
pub fn assert_self_contained(page: &str) {
    let script = format!("<script>{SCRIPT}</script>");
    assert_eq!(page.matches(&script).count(), 1);
    let page = page.replace(&script, "");
    for forbidden in ["http:", "https:", "//www", "<script", "<link", "@import", "<iframe", "<img", " src=", "file:"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for (place, _) in page.match_indices("href=\"") {
        let target = &page[place + 6..];
        assert!(target.starts_with('#') || target.starts_with("data:image/png;base64,"));
    }
    for (place, _) in page.match_indices("url(") {
        assert!(page[place + 4..].starts_with('#'));
    }
}
