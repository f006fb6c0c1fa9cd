//! Request headers as clients send them, in their order.

/// A name and a value. Whoever sends fills in `host`, `cookie`, `referer`, `origin` and `x-forwarded-for` where they stand.
pub type Header = (&'static str, &'static str);

/// The headers of one client, per kind of request.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// A page the user goes to.
    pub page: &'static [Header],
    /// A form that is sent.
    pub form: &'static [Header],
    /// A request by a script on the page.
    pub script: &'static [Header],
    /// A stylesheet, script or image.
    pub asset: &'static [Header],
}

macro_rules! chromium {
    ($ua:literal, $hints:literal, $mobile:literal, $platform:literal, $language:literal) => {
        Profile {
            page: &[
                ("host", ""),
                ("connection", "keep-alive"),
                ("sec-ch-ua", $hints),
                ("sec-ch-ua-mobile", $mobile),
                ("sec-ch-ua-platform", $platform),
                ("upgrade-insecure-requests", "1"),
                ("user-agent", $ua),
                ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"),
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-user", "?1"),
                ("sec-fetch-dest", "document"),
                ("referer", ""),
                ("accept-encoding", "gzip, deflate, br, zstd"),
                ("accept-language", $language),
                ("cookie", ""),
                ("x-forwarded-for", ""),
            ],
            form: &[
                ("host", ""),
                ("connection", "keep-alive"),
                ("content-length", ""),
                ("cache-control", "max-age=0"),
                ("sec-ch-ua", $hints),
                ("sec-ch-ua-mobile", $mobile),
                ("sec-ch-ua-platform", $platform),
                ("origin", ""),
                ("content-type", "application/x-www-form-urlencoded"),
                ("upgrade-insecure-requests", "1"),
                ("user-agent", $ua),
                ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"),
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-user", "?1"),
                ("sec-fetch-dest", "document"),
                ("referer", ""),
                ("accept-encoding", "gzip, deflate, br, zstd"),
                ("accept-language", $language),
                ("cookie", ""),
                ("x-forwarded-for", ""),
            ],
            script: &[
                ("host", ""),
                ("connection", "keep-alive"),
                ("sec-ch-ua-platform", $platform),
                ("user-agent", $ua),
                ("accept", "application/json"),
                ("sec-ch-ua", $hints),
                ("sec-ch-ua-mobile", $mobile),
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-mode", "cors"),
                ("sec-fetch-dest", "empty"),
                ("referer", ""),
                ("accept-encoding", "gzip, deflate, br, zstd"),
                ("accept-language", $language),
                ("cookie", ""),
                ("x-forwarded-for", ""),
            ],
            asset: &[
                ("host", ""),
                ("connection", "keep-alive"),
                ("sec-ch-ua-platform", $platform),
                ("user-agent", $ua),
                ("sec-ch-ua", $hints),
                ("sec-ch-ua-mobile", $mobile),
                ("accept", "*/*"),
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-mode", "no-cors"),
                ("sec-fetch-dest", "script"),
                ("referer", ""),
                ("accept-encoding", "gzip, deflate, br, zstd"),
                ("accept-language", $language),
                ("cookie", ""),
                ("x-forwarded-for", ""),
            ],
        }
    };
}

/// Firefox and Safari: no client hints, and each its own order.
macro_rules! plain_browser {
    ($ua:literal, $accept:literal, $language:literal, [$($page:tt),*], [$($form:tt),*], [$($script:tt),*]) => {
        Profile {
            page: &[$(plain_browser!(@ $page, $ua, $accept, $language, "navigate", "document")),*],
            form: &[$(plain_browser!(@ $form, $ua, $accept, $language, "navigate", "document")),*],
            script: &[$(plain_browser!(@ $script, $ua, "application/json", $language, "cors", "empty")),*],
            asset: &[$(plain_browser!(@ $script, $ua, "*/*", $language, "no-cors", "script")),*],
        }
    };
    (@ "user-agent", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("user-agent", $ua) };
    (@ "accept", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("accept", $accept) };
    (@ "accept-language", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("accept-language", $language) };
    (@ "accept-encoding", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("accept-encoding", "gzip, deflate, br") };
    (@ "sec-fetch-mode", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("sec-fetch-mode", $mode) };
    (@ "sec-fetch-dest", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("sec-fetch-dest", $dest) };
    (@ "sec-fetch-site", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("sec-fetch-site", "same-origin") };
    (@ "sec-fetch-user", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("sec-fetch-user", "?1") };
    (@ "connection", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("connection", "keep-alive") };
    (@ "upgrade-insecure-requests", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("upgrade-insecure-requests", "1") };
    (@ "content-type", $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ("content-type", "application/x-www-form-urlencoded") };
    (@ $name:literal, $ua:literal, $accept:literal, $language:literal, $mode:literal, $dest:literal) => { ($name, "") };
}

static CHROME_WINDOWS: Profile = chromium!(
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "\"Google Chrome\";v=\"141\", \"Not?A_Brand\";v=\"8\", \"Chromium\";v=\"141\"",
    "?0",
    "\"Windows\"",
    "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7"
);
static CHROME_ANDROID: Profile = chromium!(
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "\"Google Chrome\";v=\"141\", \"Not?A_Brand\";v=\"8\", \"Chromium\";v=\"141\"",
    "?1",
    "\"Android\"",
    "en-GB,en;q=0.9"
);
static EDGE: Profile = chromium!(
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
    "\"Microsoft Edge\";v=\"141\", \"Not?A_Brand\";v=\"8\", \"Chromium\";v=\"141\"",
    "?0",
    "\"Windows\"",
    "fr-FR,fr;q=0.9,en;q=0.8"
);
static FIREFOX: Profile = plain_browser!(
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "en-US,en;q=0.5",
    [
        "host",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "referer",
        "connection",
        "cookie",
        "upgrade-insecure-requests",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-fetch-user",
        "x-forwarded-for"
    ],
    [
        "host",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "content-type",
        "content-length",
        "origin",
        "connection",
        "referer",
        "cookie",
        "upgrade-insecure-requests",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "sec-fetch-user",
        "x-forwarded-for"
    ],
    [
        "host",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "referer",
        "connection",
        "cookie",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "x-forwarded-for"
    ]
);
static SAFARI_IPHONE: Profile = plain_browser!(
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "de-DE,de;q=0.9",
    [
        "host",
        "sec-fetch-dest",
        "user-agent",
        "accept",
        "referer",
        "sec-fetch-site",
        "sec-fetch-mode",
        "accept-language",
        "accept-encoding",
        "connection",
        "cookie",
        "x-forwarded-for"
    ],
    [
        "host",
        "content-type",
        "origin",
        "accept-encoding",
        "cookie",
        "content-length",
        "connection",
        "accept",
        "user-agent",
        "referer",
        "accept-language",
        "sec-fetch-dest",
        "sec-fetch-site",
        "sec-fetch-mode",
        "x-forwarded-for"
    ],
    [
        "host",
        "accept",
        "sec-fetch-site",
        "cookie",
        "sec-fetch-dest",
        "accept-language",
        "sec-fetch-mode",
        "user-agent",
        "referer",
        "accept-encoding",
        "connection",
        "x-forwarded-for"
    ]
);
static PYTHON_REQUESTS: Profile = Profile {
    page: &[
        ("host", ""),
        ("user-agent", "python-requests/2.32.5"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("connection", "keep-alive"),
        ("x-forwarded-for", ""),
    ],
    form: &[
        ("host", ""),
        ("user-agent", "python-requests/2.32.5"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "*/*"),
        ("connection", "keep-alive"),
        ("content-length", ""),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-forwarded-for", ""),
    ],
    script: &[
        ("host", ""),
        ("user-agent", "python-requests/2.32.5"),
        ("accept-encoding", "gzip, deflate"),
        ("accept", "application/json"),
        ("connection", "keep-alive"),
        ("x-forwarded-for", ""),
    ],
    asset: &[],
};
/// A browser's `User-Agent` and `Accept` pasted over a library's own headers and order, client hints forgotten.
static COPIED_HEADERS: Profile = Profile {
    page: &[
        ("host", ""),
        (
            "user-agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        ),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("connection", "keep-alive"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", ""),
        ("x-forwarded-for", ""),
    ],
    form: &[
        ("host", ""),
        (
            "user-agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        ),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("connection", "keep-alive"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", ""),
        ("content-length", ""),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-forwarded-for", ""),
    ],
    script: &[
        ("host", ""),
        (
            "user-agent",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        ),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept", "application/json"),
        ("connection", "keep-alive"),
        ("accept-language", "en-US,en;q=0.9"),
        ("cookie", ""),
        ("x-forwarded-for", ""),
    ],
    asset: &[],
};

impl Profile {
    /// What people use.
    pub const BROWSERS: [&'static Profile; 5] = [&CHROME_WINDOWS, &CHROME_ANDROID, &EDGE, &FIREFOX, &SAFARI_IPHONE];
    /// A desktop browser with everything in place: also what a careful bot drives.
    pub const CHROME: &'static Profile = &CHROME_WINDOWS;
    /// A library as it comes.
    pub const PYTHON: &'static Profile = &PYTHON_REQUESTS;
    /// A library that pretends.
    pub const COPIED: &'static Profile = &COPIED_HEADERS;
}
