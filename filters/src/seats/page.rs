//! What an operator may say about the waiting page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `page: { languages: [en, de], template: waiting.html, translations: words/ }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageSettings {
    /// Languages of the page, chosen by `Accept-Language`; the first is for everybody else. All there are when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Directory with language files of your own, `TAG.json` each; a shipped one of the same name is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translations: Option<String>,
    /// `builtin`, or the file of a template.
    pub template: String,
}

/// The name of the shipped template.
pub const BUILTIN: &str = "builtin";

impl Default for PageSettings {
    fn default() -> Self {
        PageSettings { languages: Vec::new(), translations: None, template: BUILTIN.into() }
    }
}
