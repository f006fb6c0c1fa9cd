//! A saved policy file and SIGHUP load the policy again. A bad file keeps the old policy.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::control::Control;

/// A file is read when nothing has happened to it for this long: editors write in several steps.
pub const DEBOUNCE: Duration = Duration::from_millis(300);
/// But after this long at the latest: something else in its directory may be written all the time, such as a log.
const DEBOUNCE_MAX: Duration = Duration::from_secs(2);
/// The file is looked at this often, whatever the watch says.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A file that cannot be read so often in a row is gone, and not being replaced.
const GONE_AFTER: u32 = 3;
/// Wishes that may wait; more of them say nothing new.
const WISHES_MAX: usize = 16;

enum Wish {
    /// Something happened in the directory of the file.
    Look,
    /// Load, changed or not.
    Load,
    Stop,
}

/// Watches until dropped.
pub struct Reloader {
    wishes: SyncSender<Wish>,
    thread: Option<thread::JoinHandle<()>>,
    // Dropped first of all that sends: its thread ends with it.
    _watcher: Option<RecommendedWatcher>,
}

impl Reloader {
    /// Starts the watcher. Without a way to watch, SIGHUP still works, and a log line says so.
    pub fn start(control: Arc<Control>) -> std::io::Result<Reloader> {
        let (wishes, queue) = sync_channel(WISHES_MAX);
        let file = control.file().map(Path::to_owned);
        let watcher = file.as_deref().and_then(|file| match watch(file, wishes.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "cannot watch the policy file; send SIGHUP after a change");
                None
            }
        });
        let thread = thread::Builder::new().name("reload".into()).spawn(move || serve(&control, file, &queue))?;
        Ok(Reloader { wishes, thread: Some(thread), _watcher: watcher })
    }

    /// Loads the file and the certificates again, changed or not.
    pub fn load(&self) {
        // A full queue holds a wish already.
        let _ = self.wishes.try_send(Wish::Load);
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        let _ = self.wishes.send(Wish::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Watches the directory, not the file: a save by renaming replaces the file that was watched. Where the file is a link, the
/// directory it leads to as well.
fn watch(file: &Path, wishes: SyncSender<Wish>) -> notify::Result<RecommendedWatcher> {
    let directory = |file: &Path| match file.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut directories = vec![directory(file)];
    directories.extend(file.canonicalize().ok().map(|real| directory(&real)));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too.
        if !event.is_ok_and(|e| e.kind.is_access()) {
            let _ = wishes.try_send(Wish::Look);
        }
    })?;
    for directory in directories {
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn serve(control: &Control, file: Option<PathBuf>, queue: &Receiver<Wish>) {
    let read = || file.as_deref().and_then(|f| std::fs::read(f).ok());
    let (mut last, mut missed) = (read(), 0u32);
    loop {
        // What a watch cannot see (another target of a link, a network disk) is found by looking.
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(wish) => wish,
            Err(RecvTimeoutError::Timeout) => Wish::Look,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut forced = matches!(first, Wish::Load);
        if matches!(first, Wish::Stop) {
            return;
        }
        let until = std::time::Instant::now() + DEBOUNCE_MAX;
        while !forced && std::time::Instant::now() < until {
            match queue.recv_timeout(DEBOUNCE) {
                Ok(Wish::Look) => {}
                Ok(Wish::Load) => forced = true,
                Ok(Wish::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        let now = read();
        missed = if file.is_some() && now.is_none() { missed.saturating_add(1) } else { 0 };
        if let (GONE_AFTER, Some(file)) = (missed, &file) {
            tracing::warn!(file = %file.display(), "the policy file is gone; the policy stays in force until a restart");
        }
        // A file that is gone for a moment is being replaced.
        if forced || (now.is_some() && now != last) {
            last = now;
            let _ = control.reload();
        }
    }
}
