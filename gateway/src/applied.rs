//! The policy that the admin API put in force last, kept in the directory of `state`: it counts over a restart, until the policy
//! file is another one than it was then.

use std::path::{Path, PathBuf};

use tidegate_config::{Checks, FILE_BYTES_MAX, Loaded, Policy, parse_with};
use tidegate_filters::seats::draw::digest::{hash, hex};

use crate::{control::Source, draw::publish};

/// Beside the draws, whose promises may rest on it.
const NAME: &str = "draws/applied-policy.yaml";
/// The last one that gave way to a file.
const ASIDE: &str = "draws/applied-policy.old.yaml";
/// Its first line, before the hash of the policy file of that moment.
const OVER: &str = "# applied through the admin API over a policy file with the SHA-256 ";

/// Where a gate keeps the policy that was applied.
#[derive(Debug)]
pub(crate) struct KeptPolicy {
    path: PathBuf,
    aside: PathBuf,
}

impl KeptPolicy {
    /// `None` without `state`.
    pub(crate) fn of(policy: &Policy) -> Option<KeptPolicy> {
        let directory = &policy.state.as_ref()?.directory;
        Some(KeptPolicy { path: directory.join(NAME), aside: directory.join(ASIDE) })
    }

    /// Keeps a text that was applied over what `file` says now.
    pub(crate) fn keep(&self, text: &str, file: &Path) -> std::io::Result<()> {
        let over = std::fs::read(file).map_or_else(|_| "none".to_owned(), |bytes| sha256(&bytes));
        self.path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        publish(&self.path, &format!("{OVER}{over}\n{text}"))
    }

    /// The file counts from now on. It may be this very one.
    pub(crate) fn gives_way_to(&self, file: &Path, text: &str) {
        let Some((_, kept)) = self.read().filter(|_| !self.is(file)) else { return };
        let moved = match kept == text {
            true => std::fs::remove_file(&self.path),
            false => {
                let aside = self.aside.display();
                tracing::warn!(file = %file.display(), %aside, "the policy file counts; the policy applied through the admin API is in force no more, and is kept aside");
                std::fs::rename(&self.path, &self.aside)
            }
        };
        moved.unwrap_or_else(|error| tracing::warn!(%error, path = %self.path.display(), "an applied policy stays"));
    }

    /// The hash of the file it was applied over, and its text.
    fn read(&self) -> Option<(String, String)> {
        if std::fs::metadata(&self.path).ok()?.len() > FILE_BYTES_MAX + 256 {
            return None;
        }
        let kept = std::fs::read_to_string(&self.path).ok()?;
        let (first, text) = kept.split_once('\n')?;
        Some((first.strip_prefix(OVER)?.to_owned(), text.to_owned()))
    }

    fn is(&self, file: &Path) -> bool {
        matches!((file.canonicalize(), self.path.canonicalize()), (Ok(a), Ok(b)) if a == b)
    }
}

/// The policy a gate starts with: the file's, or the one that was applied through the admin API after the file was last changed.
pub(crate) fn last(from_file: Loaded, file: Option<&Path>, checks: &Checks<'_>) -> (Loaded, Source) {
    let Some(file) = file else { return (from_file, Source::CommandLine) };
    let kept = KeptPolicy::of(&from_file.policy).filter(|k| !k.is(file));
    let Some((kept, (over, text))) = kept.and_then(|k| k.read().map(|read| (k, read))) else {
        return (from_file, Source::File);
    };
    if over != from_file.sha256 || text == *from_file.text {
        return (from_file, Source::File);
    }
    let (file, applied) = (file.display(), kept.path.display());
    let same_state = |l: Loaded| match l.policy.state == from_file.policy.state {
        true => Ok(l),
        false => Err("its `state` is another directory".to_owned()),
    };
    match parse_with(&text, &applied.to_string(), checks).map_err(|e| e.to_string()).and_then(same_state) {
        Ok(loaded) => {
            tracing::warn!(%file, %applied, "the policy applied through the admin API counts: it is newer than the policy file; write it to the file, or change the file to go back to it");
            (loaded, Source::Api)
        }
        Err(error) => {
            tracing::error!(%file, %applied, %error, "the policy applied through the admin API cannot be used any more; the policy file counts");
            (from_file, Source::File)
        }
    }
}

/// To a gate that does not start with its policy file: where the policy lies that was in force before it.
pub(crate) fn hint(policy: &Policy, source: Source) -> String {
    let kept = KeptPolicy::of(policy).filter(|k| source == Source::File && k.path.exists());
    kept.map_or_else(String::new, |k| {
        format!(
            ". The policy last in force was no file but applied through the admin API, before this file was changed, and people rely on it; it is kept in {0}. Make it your policy file (or start with --policy {0}), or call the sale off in this one",
            k.path.display()
        )
    })
}

fn sha256(bytes: &[u8]) -> String {
    hex(&hash([bytes]))
}
