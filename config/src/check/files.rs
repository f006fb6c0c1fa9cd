//! Files the policy names: certificates, keys, tokens, models, directories.

use std::{
    fs::{self, File, Metadata},
    io::Read as _,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tidegate_filters::{
    FilterSettings,
    rule::{bot_gate::BotGateSettings, good_bots::is_published},
};

use super::Checker;
use crate::error::Problem;

/// Largest certificate, key or token file, bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Shortest admin token, characters.
const TOKEN_MIN: usize = 16;

const MODEL: &str = "write `builtin`, or the path of an .onnx file";
const FORECAST: &str = "write `none`, or the path of an .onnx file";

impl Checker<'_> {
    pub(super) fn files(&mut self) {
        let policy = self.policy;
        for (i, listen) in policy.listen.iter().enumerate() {
            let Some(tls) = &listen.tls else { continue };
            let at = format!("listen[{i}].tls");
            let certificate = self.certificates(&format!("{at}.certificate"), &tls.certificate);
            let key = self.key(&format!("{at}.key"), &tls.key);
            if certificate
                && key
                && let Some(Err(why)) = self.checks.deep.map(|d| d.certificate(tls))
            {
                self.error(format!("{at}.certificate"), why, "certificate and key must be a pair that TLS accepts");
            }
        }
        for (i, upstream) in policy.shop.upstreams.iter().enumerate() {
            let file = upstream.tls.as_ref().and_then(|t| t.authorities.as_ref());
            self.authorities(format!("shop.upstreams[{i}].tls.authorities"), file);
        }
        self.good_bot_files();
        self.bot_models();
        self.shadow_models();
        self.forecast_model();
        for (i, room) in policy.rooms.iter().enumerate() {
            if let Some(Err(why)) = self.checks.deep.map(|d| d.page(&room.page)) {
                self.error(
                    format!("rooms[{i}].page"),
                    why,
                    "`tidegate page template` and `tidegate page words` print what is shipped",
                );
            }
        }
        if let Some(token) = policy.admin.as_ref().and_then(|a| a.token_file.as_ref()) {
            self.token(token);
        }
        if let Some(journal) = &policy.journal {
            self.directory("journal.directory", &journal.directory);
        }
        if let Some(keys) = &policy.keys
            && self.directory("keys.directory", &keys.directory)
        {
            match self.checks.deep.map(|d| d.keys(&keys.directory)) {
                Some(Err(why)) => self.error("keys.directory", why, "mend it, or name another directory"),
                Some(Ok(())) => {}
                None => self.private("keys.directory", &keys.directory, "700"),
            }
        }
        if let Some(state) = &policy.state
            && self.directory("state.directory", &state.directory)
        {
            self.private("state.directory", &state.directory, "700");
        }
    }

    fn authorities(&mut self, at: String, file: Option<&PathBuf>) {
        let Some(file) = file else { return };
        if self.certificates(&at, file)
            && let Some(Err(why)) = self.checks.deep.map(|d| d.authorities(file))
        {
            self.error(at, why, "write a PEM file of authorities");
        }
    }

    fn good_bot_files(&mut self) {
        let policy = self.policy;
        for (i, filter) in policy.filters.iter().enumerate() {
            let FilterSettings::GoodBots(s) = filter else { continue };
            self.authorities(format!("filters[{i}].good_bots.authorities"), s.authorities.as_ref());
            for (k, bot) in s.bots.iter().enumerate() {
                let at = |key: &str| format!("filters[{i}].good_bots.bots[{k}].{key}");
                let files = [("networks_file", &bot.networks_file), ("keys", &bot.keys)];
                let there = |(key, file): (&str, &Option<String>)| {
                    let file = file.as_ref().filter(|f| !f.contains("://"));
                    file.is_none_or(|f| self.small_file(&at(key), Path::new(f)).is_some())
                };
                // Addresses are looked at elsewhere, and wrong ones are no files.
                let wrong = |f: &Option<String>| f.as_ref().is_some_and(|f| f.contains("://") && !is_published(f));
                let all = files.map(there).into_iter().all(|yes| yes) && !files.iter().any(|(_, f)| wrong(f));
                if all && let Some(Err((key, why))) = self.checks.deep.map(|d| d.good_bot(bot)) {
                    self.error(at(key), why, "mend the file, or name another");
                }
            }
        }
    }

    /// Experts go on without it: to a gate that is to run a bad file is a warning.
    fn forecast_model(&mut self) {
        let (at, forecast) = ("forecast.model", &self.policy.forecast);
        if forecast.model.is_empty() {
            return self.error(at, "no model is named", FORECAST);
        }
        if forecast.file().is_some() && forecast.runtime != forecast.runtime.on_cpu() {
            let what = "a forecast is asked once a minute, so the CPU runs it whatever device there is";
            self.warning("forecast.runtime", what, format!("write `{}`", forecast.runtime.on_cpu().name()));
        }
        let before = self.errors.len();
        if forecast.file().is_some()
            && self.model(at, &forecast.model, FORECAST)
            && let Some(Err(why)) = self.checks.deep.map(|d| d.forecast(forecast))
        {
            self.error(at, why, "write `none`, or a model that obeys the contract (`tidegate train forecast --help`)");
        }
        if self.checks.to_run {
            let found = self.errors.split_off(before);
            self.warnings.extend(found.into_iter().map(|p| Problem { what: format!("{}; experts go on alone", p.what), ..p }));
        }
    }

    fn certificates(&mut self, at: &str, file: &Path) -> bool {
        let Some(bytes) = self.small_file(at, file) else { return false };
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match parsed {
            Ok(chain) if !chain.is_empty() => true,
            Ok(_) if PrivateKeyDer::from_pem_slice(&bytes).is_ok() => {
                self.error(
                    at,
                    format!("{} holds a private key", file.display()),
                    "the certificate goes here, the key into `key`",
                );
                false
            }
            Ok(_) => {
                self.error(
                    at,
                    format!("{} holds no certificate", file.display()),
                    "write a PEM file with -----BEGIN CERTIFICATE-----",
                );
                false
            }
            Err(e) => {
                self.error(
                    at,
                    format!("{} is not PEM: {e}", file.display()),
                    "write a PEM file with -----BEGIN CERTIFICATE-----",
                );
                false
            }
        }
    }

    fn key(&mut self, at: &str, file: &Path) -> bool {
        let Some(bytes) = self.small_file(at, file) else { return false };
        if PrivateKeyDer::from_pem_slice(&bytes).is_err() {
            let encrypted = String::from_utf8_lossy(&bytes).contains("ENCRYPTED");
            let instead = if encrypted {
                "decrypt it: nobody can type a password here"
            } else {
                "write a PEM file with -----BEGIN PRIVATE KEY-----"
            };
            self.error(at, format!("{} holds no private key that can be read", file.display()), instead);
            return false;
        }
        self.private(at, file, "600");
        true
    }

    fn token(&mut self, file: &Path) {
        let at = "admin.token_file";
        if !file.exists() {
            // The gate makes it, with a random token, when it starts.
            if let Some(directory) = file.parent().filter(|d| !d.as_os_str().is_empty()) {
                self.directory(at, directory);
            }
            return;
        }
        let Some(bytes) = self.small_file(at, file) else { return };
        let text = String::from_utf8_lossy(&bytes);
        let token = text.lines().next().unwrap_or_default().trim();
        if token.chars().count() < TOKEN_MIN || !token.chars().all(|c| c.is_ascii_graphic()) {
            let what = format!("the first line of {} is no token", file.display());
            self.error(at, what, format!("{TOKEN_MIN} or more letters and digits: `openssl rand -hex 32 > {}`", file.display()));
        }
        // A start refuses what this calls an error.
        if fs::metadata(file).is_ok_and(|m| rights_of(&m, 0o077)) {
            let what = format!("{} is open to others on this machine: the gate will not start with it", file.display());
            self.error(at, what, format!("chmod 600 {}", file.display()));
        }
    }

    fn bot_models(&mut self) {
        let mut runs = false;
        for (i, filter) in self.policy.filters.iter().enumerate() {
            let FilterSettings::BotGate(s) = filter else { continue };
            let at = format!("filters[{i}].bot_gate.model");
            let there = s.model == "builtin" || s.model.is_empty() || self.model(&at, &s.model, MODEL);
            match self.checks.deep.filter(|_| there).map(|d| d.model(s)) {
                Some(Err(why)) => self.error(at, why, "write `builtin`, or the path of a model with the documented input"),
                // One model scores every route; a gate that is to run finds out and says so itself.
                Some(Ok(())) if !runs && !self.checks.to_run && !s.model.is_empty() => {
                    runs = true;
                    self.runtime(i, s);
                }
                _ => {}
            }
        }
    }

    fn runtime(&mut self, i: usize, s: &BotGateSettings) {
        let at = format!("filters[{i}].bot_gate.runtime");
        match self.checks.deep.map(|d| d.runtime(s)) {
            Some(Err(why)) => self.error(at, why, "write `runtime: builtin` to go without it"),
            Some(Ok(Some((what, instead)))) => self.warning(at, what, instead),
            _ => {}
        }
    }

    fn shadow_models(&mut self) {
        for (i, filter) in self.policy.filters.iter().enumerate() {
            let FilterSettings::BotGate(s) = filter else { continue };
            let Some(model) = &s.shadow_model else { continue };
            let at = format!("filters[{i}].bot_gate.shadow_model");
            let alone = BotGateSettings { model: model.clone(), ..s.clone() };
            let there = model == "builtin" || self.model(&at, model, MODEL);
            if there && let Some(Err(why)) = self.checks.deep.map(|d| d.model(&alone)) {
                self.error(at, why, "remove it, or write the path of a model with the documented input");
            }
        }
    }

    fn model(&mut self, at: &str, file: &str, instead: &str) -> bool {
        let path = Path::new(file);
        // Not opened before it is known to be a file: opening a pipe waits for a writer.
        let opened = |m: &fs::Metadata| if m.is_file() { File::open(path).map(drop) } else { Ok(()) };
        match fs::metadata(path).and_then(|m| opened(&m).map(|()| m)) {
            Ok(m) if m.is_file() => return true,
            Ok(_) => self.error(at, format!("{file} is not a file"), instead),
            Err(e) => self.error(at, format!("{file} cannot be read: {e}"), instead),
        }
        false
    }

    /// A directory that exists, or can be made because something above it is a directory.
    fn directory(&mut self, at: &str, directory: &Path) -> bool {
        if directory.as_os_str().is_empty() {
            self.error(at, "no directory is named", "write a path");
            return false;
        }
        let existing = directory.ancestors().find(|a| a.exists());
        let found = existing.and_then(|a| fs::metadata(a).ok());
        match (existing, found) {
            (Some(a), Some(m)) if !m.is_dir() => {
                self.error(at, format!("{} is not a directory", a.display()), "write another path");
                false
            }
            (Some(a), Some(m)) if m.permissions().readonly() => {
                self.error(at, format!("{} cannot be written to", a.display()), "change its permissions, or write another path");
                false
            }
            // A relative path without any part that exists lies in the working directory.
            _ => directory.exists(),
        }
    }

    /// A secret that others on this machine can read.
    fn private(&mut self, at: &str, file: &Path, mode: &str) {
        if fs::metadata(file).is_ok_and(|m| rights_of(&m, 0o007)) {
            let what = format!("{} can be read by others on this machine", file.display());
            self.warning(at, what, format!("chmod {mode} {}", file.display()));
        }
    }

    fn small_file(&mut self, at: &str, file: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = fs::metadata(file).and_then(|m| match m.is_file() {
            true => File::open(file)?.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes),
            false => Err(std::io::Error::other("not a file")),
        });
        match read {
            Ok(n) if n as u64 <= PEM_BYTES_MAX => return Some(bytes),
            Ok(_) => self.error(at, format!("{} is larger than 1 MiB", file.display()), "is this the right file?"),
            Err(e) => self.error(at, format!("{} cannot be read: {e}", file.display()), relative_hint(file)),
        }
        None
    }
}

fn relative_hint(file: &Path) -> String {
    match (file.is_relative(), std::env::current_dir()) {
        (true, Ok(dir)) => format!("relative paths begin in the working directory, {}", dir.display()),
        _ => "check the path and its permissions".to_owned(),
    }
}

/// Whether a file grants any of these rights.
#[cfg(unix)]
fn rights_of(m: &Metadata, rights: u32) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    m.permissions().mode() & rights != 0
}

#[cfg(not(unix))]
fn rights_of(_: &Metadata, _: u32) -> bool {
    false
}
