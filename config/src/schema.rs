//! The JSON Schema of the language, for editors and other tools.

use crate::policy::Policy;

/// JSON Schema (2020-12) from the same types that read the policy.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Policy);
    schema.insert("title".into(), "Tidegate policy".into());
    schema.to_value()
}
