//! What nobody else on this machine may read: directories and files of secrets.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a directory that only its owner may enter, and what is missing above it. One that is there stays as it is: an
/// operator may have opened it to a group that reads the mailboxes in it.
///
/// # Errors
/// Those of the file system.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Reads a file that holds a secret in one piece of text.
///
/// # Errors
/// Those of the file system, and one that names what to do where everybody could read it.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        let text = format!("its mode is {mode:04o}, so others could read the secret; run: chmod 600");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    fs::read_to_string(path)
}

/// Opens a file for writing that only its owner may read, made if it is missing.
///
/// # Errors
/// Those of the file system.
pub(crate) fn open(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(truncate).mode(0o600).open(path)
}

/// Replaces a file as a whole, synced: readers see the old or the new one, and after a crash there is one of them.
///
/// # Errors
/// Those of the file system.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = open(&new, true)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_of_everybody_are_none() {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("a/b");
        create_directory(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o750)).unwrap();
        create_directory(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o750, "left as it was");
        let file = directory.join("password");
        fs::write(&file, "hush").unwrap();
        for (mode, is_fine) in [(0o600, true), (0o640, true), (0o644, false), (0o604, false)] {
            fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let answer = read(&file);
            assert_eq!(answer.is_ok(), is_fine, "{mode:o}: {answer:?}");
            assert!(answer.is_ok() || answer.unwrap_err().to_string().contains("chmod 600"));
        }
    }
}
