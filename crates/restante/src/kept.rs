//! Small state beside the ledger that outlives the process: one value in one file, written as a whole from time to time.
//!
//! What was changed since the last writing is forgotten by a crash, so nothing that was promised to anybody may be kept
//! here; what must never be forgotten belongs into the ledger. What the value means is its owner's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::private;

/// A value and its file.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    /// None where nothing is to outlive the process.
    path: Option<PathBuf>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    is_changed: bool,
}

impl<T: Serialize + DeserializeOwned + Default> Kept<T> {
    /// Reads the file; where there is none, the value is new. A file that cannot be understood is set aside, and told of:
    /// a server that does not start would be worse than counts that begin anew.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let value = path.as_deref().map_or_else(|| Ok(T::default()), read)?;
        Ok(Self { path, state: Mutex::new(State { value, is_changed: false }) })
    }

    /// Changes the value; it will be written.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.lock();
        state.is_changed = true;
        change(&mut state.value)
    }

    /// Looks at the value.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().value)
    }

    /// Writes the value, if it has changed.
    ///
    /// # Errors
    /// Those of the file system; the next call tries again.
    pub(crate) fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = {
            let mut state = self.lock();
            if !std::mem::replace(&mut state.is_changed, false) {
                return Ok(());
            }
            serde_json::to_vec(&state.value)?
        };
        private::replace(path, &text).inspect_err(|_| self.lock().is_changed = true)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the value every so often until the end, and then once more.
pub(crate) async fn keep<T>(kept: Arc<Kept<T>>, every: Duration, end: CancellationToken)
where
    T: Serialize + DeserializeOwned + Default + Send + 'static,
{
    loop {
        let is_over = end.run_until_cancelled(tokio::time::sleep(every)).await.is_none();
        let saving = Arc::clone(&kept);
        let saved = tokio::task::spawn_blocking(move || saving.save()).await;
        if let Ok(Err(error)) = saved {
            let path = kept.path.as_deref().unwrap_or(Path::new("")).display();
            warn!(%path, %error, "cannot be written, will be tried again");
        }
        if is_over {
            return;
        }
    }
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> io::Result<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(value),
        Err(error) => {
            let aside = path.with_extension("damaged");
            warn!(path = %path.display(), %error, aside = %aside.display(), "is damaged: set aside, and begun anew");
            fs::rename(path, aside)?;
            Ok(T::default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outlives_its_process_and_a_damaged_file_stops_nobody() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("counts");
        let open = || Kept::<Vec<u32>>::open(Some(path.clone())).unwrap();
        let kept = open();
        kept.save().unwrap();
        assert!(!path.exists(), "nothing has changed");
        kept.change(|value| value.push(7));
        kept.save().unwrap();
        assert_eq!(open().look(Clone::clone), [7]);
        fs::write(&path, "{").unwrap();
        assert!(open().look(Vec::is_empty));
        assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), b"{");
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("data");
        let kept = Kept::<Vec<u32>>::open(Some(folder.join("counts"))).unwrap();
        kept.change(|value| value.push(7));
        kept.save().unwrap_err();
        fs::create_dir(&folder).unwrap();
        kept.save().unwrap();
        assert_eq!(fs::read(folder.join("counts")).unwrap(), b"[7]");
    }

    #[tokio::test]
    async fn the_end_writes_what_is_left() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("counts");
        let kept = Arc::new(Kept::<Vec<u32>>::open(Some(path.clone())).unwrap());
        kept.change(|value| value.push(7));
        let end = CancellationToken::new();
        let keeping = tokio::spawn(keep(kept, Duration::from_secs(3600), end.clone()));
        end.cancel();
        keeping.await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"[7]");
    }
}
