//! A model takes the place of another one: both files of the new one lie beside it before anything is changed, and the old one
//! is kept. A gate that reads in the moment between the two renames finds a card about another model, and keeps what it has.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    card::{ModelCard, path_of},
    error::ModelError,
    inspect::read_model,
};

/// The model that was there before, beside `model`: it can be opened like any other.
pub fn previous(model: &Path) -> PathBuf {
    beside(model, "previous")
}

/// A candidate beside the model whose place it may take, as `NAME.next.onnx`: what is tried there is what is used. Removed
/// when dropped.
#[derive(Debug)]
pub struct Staged {
    model: PathBuf,
    next: PathBuf,
}

impl Staged {
    /// Copies a model and its card. `Err`: a card that is not about it, or another promotion that is under way.
    pub fn new(candidate: &Path, model: &Path) -> Result<Staged, ModelError> {
        let bytes = read_model(candidate)?;
        ModelCard::read_for(candidate, &bytes)?;
        let card = path_of(candidate);
        let card = fs::read(&card).map_err(io_error(&card, "read the card"))?;
        let next = beside(model, "next");
        let mut file = fs::File::create_new(&next).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ModelError::Unfit {
                path: next.clone(),
                why: "is there already: wait for the other promotion to end, or remove what one that was cut off has left".into(),
            },
            _ => io_error(&next, "write the model")(source),
        })?;
        let staged = Staged { model: model.to_owned(), next };
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io_error(&staged.next, "write the model"))?;
        let path = path_of(&staged.next);
        durable(&path, &card).map_err(io_error(&path, "write the card"))?;
        Ok(staged)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.next
    }

    /// Puts it in place; what was there becomes [`previous`].
    pub fn place(self) -> Result<Placed, ModelError> {
        let previous = previous(&self.model);
        let placed = Placed([&self.model, &previous].map(|p| [p.clone(), path_of(p)]).as_flattened().iter().map(kept).collect());
        let renamed = placed.keep(&previous).and_then(|()| {
            fs::rename(path_of(&self.next), path_of(&self.model))?;
            fs::rename(&self.next, &self.model)?;
            self.model.parent().filter(|p| !p.as_os_str().is_empty()).map_or(Ok(()), |p| fs::File::open(p)?.sync_all())
        });
        if let Err(source) = renamed {
            placed.undo()?;
            return Err(io_error(&self.model, "put the model in its place")(source));
        }
        Ok(placed)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What was put in place is here no more.
        let _ = fs::remove_file(path_of(&self.next));
        let _ = fs::remove_file(&self.next);
    }
}

/// A model that was put in place, and what four files held before: model, card, and those of the one before.
#[derive(Debug)]
pub struct Placed(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Placed {
    /// All is as it was before.
    pub fn undo(&self) -> Result<(), ModelError> {
        for (path, bytes) in &self.0 {
            let done = match bytes {
                Some(bytes) => durable(path, bytes),
                None => fs::remove_file(path).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }),
            };
            done.map_err(io_error(path, "put the file back"))?;
        }
        Ok(())
    }

    /// Keeps what is in place as the previous one; half a model is none.
    fn keep(&self, previous: &Path) -> io::Result<()> {
        let [(_, Some(model)), (_, Some(card)), ..] = &self.0[..] else { return Ok(()) };
        durable(&path_of(previous), card)?;
        durable(previous, model)
    }
}

fn kept(path: &PathBuf) -> (PathBuf, Option<Vec<u8>>) {
    (path.clone(), fs::read(path).ok())
}

/// `bots.onnx` and `next` make `bots.next.onnx`.
fn beside(model: &Path, word: &str) -> PathBuf {
    let mut name = model.file_stem().unwrap_or_default().to_owned();
    name.push(".");
    name.push(word);
    if let Some(extension) = model.extension() {
        name.push(".");
        name.push(extension);
    }
    model.with_file_name(name)
}

/// Whole or not at all, and on the disk.
fn durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_added_extension("part");
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> ModelError {
    move |source| ModelError::Io { path: path.to_owned(), doing, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    fn model(dir: &Path, name: &str, weight: u8) -> PathBuf {
        let made = testing::put(dir, &[testing::log_of_first(), vec![weight]].concat(), |c| c);
        let path = dir.join(name);
        fs::rename(path_of(&made), path_of(&path)).unwrap();
        fs::rename(made, &path).unwrap();
        path
    }

    fn read(path: &Path) -> (Vec<u8>, Vec<u8>) {
        (fs::read(path).unwrap(), fs::read(path_of(path)).unwrap())
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn a_model_takes_the_place_and_goes_back_to_the_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (live, new) = (model(dir.path(), "live.onnx", 1), model(dir.path(), "new.onnx", 2));
        let (old, candidate) = (read(&live), read(&new));
        let placed = Staged::new(&new, &live).unwrap().place().unwrap();
        assert_eq!((read(&live), read(&previous(&live))), (candidate.clone(), old.clone()));
        placed.undo().unwrap();
        assert_eq!((read(&live), names(dir.path()).len()), (old.clone(), 4), "nothing else is left: {:?}", names(dir.path()));
        drop(Staged::new(&new, &live).unwrap().place().unwrap());
        drop(Staged::new(&previous(&live), &live).unwrap().place().unwrap());
        assert_eq!((read(&live), read(&previous(&live))), (old, candidate), "and back, and forth again");
        let fresh = dir.path().join("fresh.onnx");
        Staged::new(&new, &fresh).unwrap().place().unwrap();
        assert!(fresh.exists() && !previous(&fresh).exists());
    }

    #[test]
    fn what_is_refused_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (live, new) = (model(dir.path(), "live.onnx", 1), model(dir.path(), "new.onnx", 2));
        let old = (read(&live), names(dir.path()));
        let staged = Staged::new(&new, &live).unwrap();
        let second = Staged::new(&new, &live).unwrap_err().to_string();
        assert!(second.contains("live.next.onnx: is there already"), "{second}");
        drop(staged);
        fs::write(path_of(&new), r#"{"model_sha256": "00", "features_sha256": "00"}"#).unwrap();
        assert!(Staged::new(&new, &live).unwrap_err().to_string().contains("is about a model with SHA-256 00"));
        assert!(Staged::new(&dir.path().join("none.onnx"), &live).unwrap_err().to_string().contains("cannot read the model"));
        assert_eq!((read(&live), names(dir.path())), old);
    }
}
