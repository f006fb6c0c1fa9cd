//! Reads a template as a browser would, and refuses what escaping cannot make safe.

use super::template::TemplateError;

/// Attributes that hold an address.
const LINKS: [&str; 9] = ["href", "src", "action", "formaction", "srcset", "data", "poster", "xlink:href", "ping"];
/// Elements whose text is no markup.
const RAW: [&str; 2] = ["script", "style"];

/// The texts of its scripts and styles.
pub(super) fn inspect(source: &str) -> Result<Vec<&str>, TemplateError> {
    let mut reader = Reader { source, at: 0 };
    let mut inline = Vec::new();
    while reader.at < source.len() {
        let rest = reader.rest();
        if let Some(end) = template_part(rest) {
            reader.at += end;
        } else if rest.starts_with("<!--") {
            match rest.find("-->") {
                Some(end) => reader.at += end + 3,
                None => return Err(reader.wrong("a comment is never closed: what follows would not be shown", "write -->")),
            }
        } else if rest.starts_with('<') && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            if let Some(text) = reader.element()? {
                inline.push(text);
            }
        } else {
            reader.step();
        }
    }
    Ok(inline)
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Reader<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn step(&mut self) {
        self.at += self.rest().chars().next().map_or(1, char::len_utf8);
    }

    /// A start tag, and for scripts and styles their text.
    fn element(&mut self) -> Result<Option<&'s str>, TemplateError> {
        self.at += 1;
        let name = self.word();
        while !self.rest().is_empty() {
            let rest = self.rest();
            if rest.starts_with("{{") {
                return Err(self.wrong("a value stands between the attributes of a tag", "write it as name=\"{{ value }}\""));
            } else if let Some(end) = template_part(rest) {
                self.at += end;
            } else if rest.starts_with('>') {
                self.at += 1;
                break;
            } else if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':') {
                self.attribute(&name)?;
            } else {
                self.step();
            }
        }
        if !RAW.contains(&name.as_str()) {
            return Ok(None);
        }
        let rest = self.rest();
        let end = rest.to_ascii_lowercase().find(&format!("</{name}")).unwrap_or(rest.len());
        let text = &rest[..end];
        if let Some(at) = ["{{", "{%", "{#"].iter().filter_map(|m| text.find(m)).min() {
            self.at += at;
            let what = format!("a value or block stands inside <{name}>");
            return Err(self.wrong(&what, "put values into data attributes, as data-x=\"{{ value }}\", and read them from there"));
        }
        self.at += end;
        Ok(Some(text))
    }

    fn attribute(&mut self, element: &str) -> Result<(), TemplateError> {
        let start = self.at;
        let name = self.word();
        if name.starts_with("on") {
            self.at = start;
            return Err(self.wrong(&format!("`{name}` never runs: the page allows no handlers in tags"), "use a <script>"));
        }
        if name == "style" {
            self.at = start;
            return Err(self.wrong("`style` attributes are not applied", "put the rule into a <style>"));
        }
        if name == "srcdoc" || (name == "http-equiv" && element == "meta") {
            self.at = start;
            return Err(self.wrong(&format!("`{name}` is not allowed"), "remove it; {{ head }} has what the page needs"));
        }
        self.blanks();
        if !self.rest().starts_with('=') {
            return Ok(());
        }
        self.at += 1;
        self.blanks();
        let quote = self.rest().chars().next().filter(|c| *c == '"' || *c == '\'');
        let Some(quote) = quote else {
            if self.rest().starts_with("{{") {
                return Err(self.wrong(&format!("the value of `{name}` has no quotes"), "write name=\"{{ value }}\""));
            }
            while !self.rest().is_empty() && !self.rest().starts_with([' ', '\t', '\n', '\r', '>']) {
                if self.rest().starts_with("{{") {
                    return Err(self.wrong(&format!("the value of `{name}` has no quotes"), "write name=\"{{ value }}\""));
                }
                self.step();
            }
            return Ok(());
        };
        self.at += 1;
        let link = LINKS.contains(&name.as_str());
        let value = self.rest();
        let fetched = link && (name != "href" || element == "link") && !name.ends_with("action");
        let lower = value.trim_start().to_ascii_lowercase();
        if fetched && ["http:", "https:", "//"].iter().any(|s| lower.starts_with(s)) {
            return Err(self.wrong("the page would ask another host", "serve it from the shop itself, or write it into the page"));
        }
        if link && lower.starts_with("javascript:") {
            return Err(self.wrong("`javascript:` addresses never run", "use a <script>"));
        }
        while !self.rest().is_empty() && !self.rest().starts_with(quote) {
            match template_part(self.rest()) {
                Some(end) => {
                    let part = &self.rest()[..end];
                    let inside = part.trim_start_matches("{{").trim_start_matches('-').trim_start();
                    if link && part.starts_with("{{") && !inside.starts_with("urls.") {
                        let what = format!("`{name}` holds a value that is no address of the gate");
                        return Err(self.wrong(&what, "use one of {{ urls.… }}"));
                    }
                    self.at += end;
                }
                None => self.step(),
            }
        }
        self.at += usize::from(!self.rest().is_empty());
        Ok(())
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c))).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_ascii_lowercase()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn wrong(&self, what: &str, instead: &'static str) -> TemplateError {
        let line = 1 + self.source[..self.at].matches('\n').count();
        TemplateError::Unsafe { line, what: what.to_owned(), instead }
    }
}

/// The length of `{{ … }}`, `{% … %}` or `{# … #}` at the beginning. A `}}` in quotes does not end it.
fn template_part(text: &str) -> Option<usize> {
    let close = match text.get(..2)? {
        "{{" => "}}",
        "{%" => "%}",
        "{#" => return Some(text.find("#}").map_or(text.len(), |i| i + 2)),
        _ => return None,
    };
    let mut quote = None;
    for (i, c) in text.char_indices().skip(2) {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if text[i..].starts_with(close) => return Some(i + 2),
            None => {}
        }
    }
    Some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_escaping_cannot_make_safe_is_refused_with_its_line() {
        for (bad, said) in [
            ("<p>a</p><!-- b", "a comment is never closed"),
            ("<script>var x = \"{{ x }}\"</script>", "inside <script>"),
            ("<SCRIPT>\n{% if x %}a(){% endif %}</SCRIPT>", "inside <script>"),
            ("<style>p { color: {{ x }} }</style>", "inside <style>"),
            ("<p {{ x }}>", "between the attributes"),
            ("<p title={{ x }}>", "no quotes"),
            ("<p title=a{{ x }}>", "no quotes"),
            ("<p onclick=\"{{ x }}\">", "never runs"),
            ("<p ONCLICK='a()'>", "never runs"),
            ("<p style=\"color:{{ x }}\">", "not applied"),
            ("<a href=\"{{ message }}\">", "no address of the gate"),
            ("<a href=\" javascript:a()\">", "javascript:"),
            ("<form action='/x{{ x }}'>", "no address of the gate"),
            ("<img src=\"https://cdn.example/x.png\">", "another host"),
            ("<link rel=stylesheet href=\"//cdn.example/x.css\">", "another host"),
            ("<iframe srcdoc=\"{{ x }}\">", "not allowed"),
            ("<meta http-equiv=\"refresh\" content=\"0\">", "not allowed"),
        ] {
            let refused = inspect(&format!("\n\n{bad}")).map_err(|e| e.to_string()).err().unwrap_or_default();
            assert!(refused.contains(said) && refused.starts_with("line "), "{bad}: {refused}");
        }
        let Err(TemplateError::Unsafe { line, .. }) = inspect("\n<p>\n<p {{ x }}>") else { panic!("refused") };
        assert_eq!(line, 3);
    }

    #[test]
    fn what_is_safe_passes() {
        for good in [
            "<p title=\"a {{ x }} b\" {% if x %}hidden{% endif %}>{{ x }}</p>",
            "<a href=\"{{ urls.draw }}\">{{ x }}</a>",
            "<a href=\"https://shop.example/help\">help</a>",
            "<img src=\"/static/logo.svg\" alt='{{ x }}'>",
            "a < b {{ '}}' }} {# <script>{{ x }} #}",
            "<!-- <p {{ x }}> -->",
        ] {
            assert!(inspect(good).is_ok_and(|i| i.is_empty()), "{good}");
        }
        let inline = inspect("<script>a()</script><style media=print>b{}</style>").unwrap_or_default();
        assert_eq!(inline, ["a()", "b{}"]);
    }
}
