//! The signing keys and the hashing key: files of 0600 in a directory of 0700, made at the first start.
//!
//! `NNN.key` (001 to 255) is a token key, `hash.key` keys the hashes of visitors and networks, `statement.key` signs for draws. Each is 32 random bytes as
//! 64 hex digits. The highest number signs, all verify: adding a number rotates and no token in a browser is lost.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use thiserror::Error;
use tidegate_filters::seats::token::Keyring;

const SECRET_LEN: usize = 32;
/// A key file: 64 hex digits and a line end.
const FILE_LEN_MAX: u64 = 2 * SECRET_LEN as u64 + 2;
const HASH_FILE: &str = "hash.key";
const STATEMENT_FILE: &str = "statement.key";

/// The secrets of one gate.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Signs and opens tokens.
    pub ring: Keyring,
    /// Keys the hashes of visitors and networks in the journal.
    pub hash: HashKey,
    /// Signs receipts and frozen lists of draws.
    pub statement: StatementKey,
    /// The id of the key that signs.
    pub newest: u8,
    /// Whether tokens survive a restart.
    pub kept: bool,
}

/// The secret of the Ed25519 key of draws. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StatementKey(pub [u8; 32]);

impl std::fmt::Debug for StatementKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StatementKey")
    }
}

/// 128 bits for SipHash. Never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub (u64, u64));

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

/// Why the keys cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file or directory that cannot be read or written.
    #[error("{action} {path}: {error}; the user that runs tidegate must be able to read and write this directory")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others may read secrets.
    #[error("{path} has mode {mode:04o}, so others can read or change secrets; run: chmod {wanted:o} {path}")]
    Mode {
        /// Which.
        path: PathBuf,
        /// As found.
        mode: u32,
        /// As needed.
        wanted: u32,
    },
    /// Not a key.
    #[error(
        "{path} is not a key: it must hold 64 hexadecimal digits (32 random bytes) and nothing else; remove it or put the right file back"
    )]
    Content {
        /// Which.
        path: PathBuf,
    },
    /// More files than the ring holds.
    #[error("{path} holds {count} token keys, at most {max} are used; remove the lowest numbers (tokens they signed end)", max = Keyring::KEYS_MAX)]
    TooMany {
        /// Which directory.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// No number left.
    #[error("{path} already holds 255.key, the highest number; remove it and the older ones once no token of theirs is in use")]
    NoNumber {
        /// Which directory.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Entropy(getrandom::Error),
}

impl Keys {
    /// The directory has a token key.
    pub fn are_in(directory: &Path) -> bool {
        numbers(directory).is_ok_and(|ids| !ids.is_empty())
    }

    /// Reads the keys in `directory`; makes directory and keys when there are none.
    pub fn open(directory: &Path) -> Result<Keys, KeyError> {
        ensure_directory(directory)?;
        if numbers(directory)?.is_empty() {
            create(directory, &file_name(1))?;
        }
        for file in [HASH_FILE, STATEMENT_FILE].into_iter().filter(|f| !directory.join(f).exists()) {
            create(directory, file)?;
        }
        let mut numbers = numbers(directory)?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let mut secrets = Vec::with_capacity(numbers.len());
        for id in &numbers {
            secrets.push((*id, read(&directory.join(file_name(*id)))?));
        }
        let too_many = || KeyError::TooMany { path: directory.into(), count: secrets.len() };
        let ring = Keyring::new(&secrets).ok_or_else(too_many)?;
        let hash = hash_key(&read(&directory.join(HASH_FILE))?);
        let statement = StatementKey(read(&directory.join(STATEMENT_FILE))?);
        Ok(Keys { ring, hash, statement, newest: numbers.first().copied().unwrap_or_default(), kept: true })
    }

    /// Whether [`Keys::open`] could use what is there; makes nothing.
    pub fn check(directory: &Path) -> Result<(), KeyError> {
        refuse_shared(directory, 0o700)?;
        let numbered = numbers(directory)?.into_iter().map(file_name);
        let named = [HASH_FILE, STATEMENT_FILE].into_iter().map(str::to_owned).filter(|f| directory.join(f).exists());
        for file in numbered.chain(named) {
            read(&directory.join(file))?;
        }
        Ok(())
    }

    /// Keys for this process only: a restart ends every ticket and pass.
    pub fn for_this_process() -> Result<Keys, KeyError> {
        let (token, hash, statement) = (random()?, random()?, StatementKey(random()?));
        let path = PathBuf::from("memory");
        let ring = Keyring::new(&[(1, token)]).ok_or(KeyError::TooMany { path, count: 1 })?;
        Ok(Keys { ring, hash: hash_key(&hash), statement, newest: 1, kept: false })
    }

    /// Adds the key with the next number; it signs from the next load on. Returns its number.
    pub fn rotate(directory: &Path) -> Result<u8, KeyError> {
        ensure_directory(directory)?;
        let found = numbers(directory)?;
        let count = found.len() + 1;
        if count > Keyring::KEYS_MAX {
            return Err(KeyError::TooMany { path: directory.into(), count });
        }
        let next = found.iter().max().copied().unwrap_or(0).checked_add(1);
        let next = next.ok_or_else(|| KeyError::NoNumber { path: directory.into() })?;
        create(directory, &file_name(next))?;
        Ok(next)
    }
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyError::Entropy)?;
    Ok(bytes)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes a new file of mode 0600 so that it is there whole or not at all; one that is already there is left alone.
pub fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link, not a rename: of two gates that start at once, one wins and both read the same key.
        match fs::hard_link(&draft, path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(()),
        }
    };
    let written = write();
    let _ = fs::remove_file(&draft);
    written?;
    if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// An error when group or others have any right on `path`.
pub fn refuse_shared(path: &Path, wanted: u32) -> Result<(), KeyError> {
    let io = |error| KeyError::Io { action: "cannot look at", path: path.into(), error };
    let mode = fs::metadata(path).map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.into(), mode, wanted });
    }
    Ok(())
}

fn ensure_directory(directory: &Path) -> Result<(), KeyError> {
    let io = |error| KeyError::Io { action: "cannot make", path: directory.into(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    refuse_shared(directory, 0o700)
}

fn file_name(id: u8) -> String {
    format!("{id:03}.key")
}

/// The ids of the token keys in a directory, in no order.
fn numbers(directory: &Path) -> Result<Vec<u8>, KeyError> {
    let io = |error| KeyError::Io { action: "cannot list", path: directory.into(), error };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".key")).filter(|n| n.len() == 3);
        if let Some(id) = number.and_then(|n| n.parse::<u8>().ok()).filter(|id| *id > 0) {
            found.push(id);
        }
    }
    Ok(found)
}

fn create(directory: &Path, name: &str) -> Result<(), KeyError> {
    let path = directory.join(name);
    let secret: [u8; SECRET_LEN] = random()?;
    write_secret(&path, &format!("{}\n", hex(&secret))).map_err(|error| KeyError::Io { action: "cannot write", path, error })
}

fn read(path: &Path) -> Result<[u8; SECRET_LEN], KeyError> {
    let io = |error| KeyError::Io { action: "cannot read", path: path.into(), error };
    let content = || KeyError::Content { path: path.into() };
    refuse_shared(path, 0o600)?;
    if fs::metadata(path).map_err(io)?.size() > FILE_LEN_MAX {
        return Err(content());
    }
    let text = fs::read_to_string(path).map_err(|e| if e.kind() == io::ErrorKind::InvalidData { content() } else { io(e) })?;
    unhex(text.trim_end()).ok_or_else(content)
}

fn unhex(text: &str) -> Option<[u8; SECRET_LEN]> {
    if text.len() != 2 * SECRET_LEN || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; SECRET_LEN];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}

fn hash_key(secret: &[u8; SECRET_LEN]) -> HashKey {
    let half = |at: usize| secret[at..at + 8].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    HashKey((half(0), half(8)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tidegate_filters::seats::token::{Kind, Token};

    use super::*;

    fn token() -> Token {
        Token {
            kind: Kind::Visitor,
            room: "".into(),
            sale: "".into(),
            host: "shop".into(),
            epoch: 1,
            number: 2,
            binding: 0,
            issued_at_ms: 0,
            not_before_ms: 0,
            expires_at_ms: 9,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_cannot_be_opened_does_not_pass_the_check_either() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("keys");
        Keys::open(&dir).unwrap();
        assert!(Keys::check(&dir).is_ok());
        let key = dir.join(file_name(1));
        for (mode, good) in [(0o644, false), (0o600, true)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!((Keys::check(&dir).is_ok(), Keys::open(&dir).is_ok()), (good, good), "{mode:o}");
        }
        fs::write(dir.join(file_name(2)), "junk").unwrap();
        fs::set_permissions(dir.join(file_name(2)), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Keys::check(&dir).is_err() && Keys::open(&dir).is_err());
    }

    #[test]
    fn made_once_private_and_read_again() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/keys");
        let first = Keys::open(&dir).unwrap();
        assert_eq!((mode(&dir), mode(&dir.join("001.key")), mode(&dir.join("hash.key"))), (0o700, 0o600, 0o600));
        let again = Keys::open(&dir).unwrap();
        assert!(again.hash == first.hash && again.ring.open(&first.ring.seal(&token())).is_ok());
        assert!(again.statement == first.statement);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "no draft is left behind");
        let other = Keys::for_this_process().unwrap();
        assert!(other.ring.open(&first.ring.seal(&token())).is_err());
    }

    #[test]
    fn rotation_signs_anew_and_loses_nothing() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("keys");
        let old = Keys::open(&dir).unwrap();
        assert_eq!(Keys::rotate(&dir).unwrap(), 2);
        let new = Keys::open(&dir).unwrap();
        assert_eq!(new.newest, 2);
        assert!(new.ring.open(&old.ring.seal(&token())).is_ok());
        assert!(old.ring.open(&new.ring.seal(&token())).is_err());
        for n in 3..=16 {
            assert_eq!(Keys::rotate(&dir).unwrap(), n);
        }
        assert!(matches!(Keys::rotate(&dir), Err(KeyError::TooMany { count: 17, .. })));
        fs::rename(dir.join("016.key"), dir.join("255.key")).unwrap();
        fs::remove_file(dir.join("001.key")).unwrap();
        assert!(matches!(Keys::rotate(&dir), Err(KeyError::NoNumber { .. })));
    }

    #[test]
    fn shared_or_damaged_files_are_refused_with_advice() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("keys");
        Keys::open(&dir).unwrap();
        let key = dir.join("001.key");
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&key, 0o640);
        assert!(Keys::open(&dir).unwrap_err().to_string().contains(&format!("chmod 600 {}", key.display())));
        set(&key, 0o600);
        set(&dir, 0o755);
        assert!(Keys::open(&dir).unwrap_err().to_string().contains(&format!("chmod 700 {}", dir.display())));
        set(&dir, 0o700);
        for bad in ["", "abc\n", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65), &"a".repeat(4096)] {
            fs::write(&key, bad).unwrap();
            assert!(matches!(Keys::open(&dir), Err(KeyError::Content { .. })), "{bad:?}");
        }
        fs::write(&key, [0xff; 64]).unwrap();
        assert!(matches!(Keys::open(&dir), Err(KeyError::Content { .. })));
        let file = base.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(Keys::open(&file), Err(KeyError::Io { .. })));
    }
}
