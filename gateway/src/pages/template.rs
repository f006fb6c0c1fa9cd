//! Templates: every value is escaped, wherever it stands and whatever the template says.
//!
//! The engine has no filters, no functions, no includes and no loops over numbers, so a template can neither switch the
//! escaping off nor run long. What escaping alone cannot make safe (values in scripts, styles, tags without quotes, links)
//! is refused when the template is read. Scripts and styles are named in the page's Content-Security-Policy by their
//! hash: any other script, wherever it came from, does not run.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{AutoEscape, Environment, Output, UndefinedBehavior, Value};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::guard;

/// A template has at most this many bytes.
pub const TEMPLATE_BYTES_MAX: u64 = 64 << 10;
/// Steps of one page; the shipped one takes about 500.
const FUEL: u64 = 20_000;
const NAME: &str = "page";

/// A page with places for values.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    policy: String,
}

/// Why a template cannot be used.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// It does not parse, or uses what does not exist.
    #[error("line {line}: {what}")]
    Engine {
        /// From 1; 0 when not known.
        line: usize,
        /// What the engine says.
        what: String,
    },
    /// A value stands where escaping cannot make it safe, or the page would ask a third party.
    #[error("line {line}: {what}; {instead}")]
    Unsafe {
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
        /// What to write instead.
        instead: &'static str,
    },
}

impl From<minijinja::Error> for TemplateError {
    fn from(e: minijinja::Error) -> Self {
        let what = e.detail().map_or_else(|| e.kind().to_string(), |d| format!("{}: {d}", e.kind()));
        TemplateError::Engine { line: e.line().unwrap_or(0), what }
    }
}

impl Template {
    /// Reads a template; `own` are scripts and styles that come as values.
    pub fn new(source: &str, own: &[&str]) -> Result<Template, TemplateError> {
        let inline = guard::inspect(source)?;
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_formatter(write_escaped);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(8);
        environment.add_template_owned(NAME, source.to_owned())?;
        let hashes = own.iter().copied().chain(inline).fold(String::new(), |mut list, text| {
            let _ = write!(list, " 'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
            list
        });
        let policy = format!(
            "default-src 'none'; script-src{hashes}; style-src{hashes}; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
        );
        Ok(Template { environment, policy })
    }

    /// The page. Fails on values that do not exist and on templates that run too long.
    pub fn render(&self, values: Value) -> Result<String, TemplateError> {
        Ok(self.environment.get_template(NAME)?.render(values)?)
    }

    /// Its `Content-Security-Policy`.
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

/// Values made by us are written as they are; everything else is escaped, in `{% autoescape false %}` too.
fn write_escaped(out: &mut Output<'_>, _: &minijinja::State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    if value.is_none() || value.is_undefined() {
        return Ok(());
    }
    match value.as_str() {
        Some(text) if value.is_safe() => out.write_str(text)?,
        Some(text) => escape(out, text)?,
        None => escape(out, &value.to_string())?,
    }
    Ok(())
}

/// For text and for quoted attributes.
pub(super) fn escape(out: &mut impl std::fmt::Write, text: &str) -> std::fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'', '`']) {
        let (before, from) = rest.split_at(at);
        out.write_str(before)?;
        out.write_str(match from.as_bytes()[0] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            _ => "&#96;",
        })?;
        rest = &from[1..];
    }
    out.write_str(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use minijinja::context;
    use proptest::prelude::*;

    use super::*;

    fn render(source: &str, x: &str) -> Result<String, TemplateError> {
        Template::new(source, &[])?.render(context! { x })
    }

    #[test]
    fn no_template_can_switch_escaping_off() {
        let evil = "\"><script>alert('1')</script>&`";
        let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&#96;";
        for source in [
            "{{ x }}",
            "{% autoescape false %}{{ x }}{% endautoescape %}",
            "{% autoescape 'none' %}{{ x }}{% endautoescape %}",
            "{% if true %}{{ x ~ '' }}{% endif %}",
            "{% with y = x %}{{ y }}{% endwith %}",
            "{% for c in [x] %}{{ c }}{% endfor %}",
            "<p title=\"{{ x }}\"></p>",
            "{% set y %}{{ x }}{% endset %}{{ y }}",
        ] {
            let page = render(source, evil).unwrap();
            assert!(page.contains(escaped) && !page.contains("<script"), "{source}: {page}");
        }
        // Captured with escaping off: escaped twice rather than not at all.
        let twice = render("{% autoescape false %}{% set y %}{{ x }}{% endset %}{{ y }}{% endautoescape %}", evil).unwrap();
        assert!(!twice.contains('<'), "{twice}");
        for source in
            ["{{ x|safe }}", "{{ x|escape }}", "{% include 'x' %}", "{{ range(9) }}", "{{ y }}", "{% if y %}{% endif %}"]
        {
            assert!(render(source, evil).is_err(), "{source}");
        }
    }

    #[test]
    fn what_takes_too_long_ends() {
        let nested = "{% for a in x %}".repeat(6) + &"{% endfor %}".repeat(6);
        let list: Vec<u32> = (0..100).collect();
        let ended = Template::new(&nested, &[]).unwrap().render(context! { x => list });
        assert!(ended.unwrap_err().to_string().contains("fuel"));
    }

    #[test]
    fn the_policy_names_every_script_and_no_other() {
        let template = Template::new("<script>a()</script><style>b{}</style>", &["own()"]).unwrap();
        let hash = |t: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(t)));
        for text in ["a()", "b{}", "own()"] {
            assert!(template.policy().contains(&hash(text)), "{text}");
        }
        assert!(!template.policy().contains("unsafe"));
    }

    proptest! {
        #[test]
        fn nothing_breaks_out(x in "\\PC{0,60}") {
            for source in ["<p>{{ x }}</p>", "<p title=\"{{ x }}\">", "<p title='{{ x }}'>", "<!-- {{ x }} -->"] {
                let page = render(source, &x).expect("renders");
                let inside = page.strip_prefix(source.split("{{").next().expect("a start")).expect("as written");
                let inside = inside.strip_suffix(source.split("}}").nth(1).expect("an end")).expect("as written");
                prop_assert!(!inside.contains(['<', '>', '"', '\'', '`']), "{}", page);
            }
        }
    }
}
